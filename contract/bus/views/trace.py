"""A job's life in order: from its records in Redis, the gateways' boards, this host's logs."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

import msgspec
from msgspec.structs import replace

from contract.bus.background import BackgroundJobs
from contract.bus.client import RedisClient
from contract.bus.heartbeats import GATEWAYS, Heartbeats, read_beats
from contract.bus.records.worker_ends import WorkerEnd, WorkerEnds
from contract.bus.views.job_life import AttemptLife, JobLife, job_life
from contract.bus.views.request_board import RequestBoard, RequestView
from contract.config import Config
from contract.gateway_beat import GatewayBeat
from contract.logs.file import LogFile, logs_of
from contract.logs.line import merged
from contract.messages import Heartbeat
from contract.paths import logs_dir
from contract.usage import MODELS_KEY

#: Gateway processes write on the board within a second of the first look.
_BOARD_AFTER_S: Final = 1.2
_MOST_LINES: Final = 40
_ENDS: Final = ("done", "failed", "cancelled")
#: Lines that tell of the end are written a little after it.
_LATER_S: Final = 1.0
#: Ids of answers are the job's with a word before it, such as `chatcmpl-`.
_NAMED: Final = re.compile(r"[a-z]+[-_]([0-9a-f]{32})")
_decode_beat = msgspec.msgpack.Decoder(Heartbeat).decode
_decode_gateway = msgspec.msgpack.Decoder(GatewayBeat).decode


class Moment(msgspec.Struct, frozen=True):
    """One thing that happened to a job: `accepted`, `queued`, `moved` (to another model's queue),
    `claimed`, `first_token`, `lost` (the attempt ended without the job's end), `done`, `failed` or
    `cancelled`. `at_ms` is Unix time by Redis' clock, null where it is not kept any more."""

    at_ms: int | None
    what: str
    text: str = ""
    attempt: int = 0
    worker: str = ""
    host: str = ""
    engine: str = ""


class Trace(msgspec.Struct, frozen=True):
    """A job's life so far. `log` are the lines of this host that name it or its lost workers."""

    job_id: str
    request_id: str
    model: str
    key_id: str
    state: str
    moments: tuple[Moment, ...]
    log: tuple[str, ...] = ()


async def find_trace(db: RedisClient, config: Config, wanted: str) -> Trace | None:
    """Return the life of a job by its id, that of its request, of its answer or of its background
    job; None if it is not known. Its lines of logs are not read yet. Raises `RedisError`."""
    view = None
    life = await _find(db, config, await _job_id(db, config, wanted))
    views = await _board(db)
    if life is None:
        view = next((each for each in views if each.request_id == wanted), None)
        life = await _find(db, config, view.job_id) if view else None
    if life is None:
        return None
    view = view or next((each for each in views if each.job_id == life.job_id), None)
    beats = read_beats(await Heartbeats(db, life.model).alive(), _decode_beat)
    ends = await WorkerEnds(db, life.model).of([each.worker for each in life.attempts])
    gateways = read_beats(await Heartbeats(db, GATEWAYS).alive(), _decode_gateway)
    workers = {each.name: (each.host, f"{each.engine} {each.version}".strip()) for each in beats}
    workers |= {name: (end.host, end.engine) for name, end in ends.items()}
    host = next((each.host for each in gateways if each.name == life.gateway), "")
    return Trace(
        job_id=life.job_id,
        request_id=view.request_id if view else life.job_id,
        model=life.model,
        key_id=life.key_id,
        state=life.state,
        moments=tuple(_moments(life, view, host, workers, ends)),
    )


async def _job_id(db: RedisClient, config: Config, wanted: str) -> str:
    """Return the id in the queue of what may be the id of a background job, or of an answer."""
    record = await BackgroundJobs(db, config.jobs.max_bytes).find(wanted, short=True)
    named = _NAMED.fullmatch(wanted)
    return (record and record.queued_as) or (named[1] if named else wanted)


async def _find(db: RedisClient, config: Config, job_id: str) -> JobLife | None:
    for model in sorted(
        {each.decode() for each in await db.smembers(MODELS_KEY)} | {*config.models}
    ):
        if (life := await job_life(db, model, job_id)) is not None:
            return life
    return None


async def _board(db: RedisClient) -> list[RequestView]:
    board = RequestBoard(db)
    if not await board.watch():
        await asyncio.sleep(_BOARD_AFTER_S)
    return [view for views in (await board.read()).values() for view in views]


def _moments(
    life: JobLife,
    view: RequestView | None,
    host: str,
    workers: dict[str, tuple[str, str]],
    ends: dict[str, WorkerEnd],
) -> Iterator[Moment]:
    # The clocks of two hosts differ.
    put = life.before or life
    accepted_ms = min(int(view.began_unix_s * 1000), put.queued_ms) if view else put.queued_ms
    yield Moment(accepted_ms, "accepted", f"gateway process {life.gateway}", host=host)
    before = f"{view.position} jobs waited before it" if view and view.position else ""
    if life.before is not None:
        yield Moment(put.queued_ms, "queued", f"for {put.model}")
        yield Moment(life.queued_ms, "moved", f"to {life.model}, as it had waited too long")
    else:
        yield Moment(life.queued_ms, "queued", before)
    spoke_ms = accepted_ms + int(view.first_token_ms) if view and view.first_token_ms else None
    for attempt, after in zip_longest(life.attempts, life.attempts[1:]):
        on, engine = workers.get(attempt.worker, ("", ""))
        claimed = Moment(
            attempt.began_ms,
            "claimed",
            attempt=life.attempts.index(attempt) + 1,
            worker=attempt.worker,
            host=on,
            engine=engine,
        )
        yield claimed
        first_ms = attempt.first_ms
        if first_ms is None and spoke_ms and (after is None or spoke_ms < after.began_ms):
            first_ms = spoke_ms
        if first_ms is not None:
            yield replace(claimed, at_ms=first_ms, what="first_token")
            spoke_ms = None
        if after is not None:
            yield _lost(claimed, attempt, after, ends.get(attempt.worker))
    yield from _end(life)


def _lost(
    claimed: Moment, attempt: AttemptLife, after: AttemptLife, end: WorkerEnd | None
) -> Moment:
    """Return when and why an attempt ended that another came after."""
    why = end.cause if end else "it gave the job back, or its host has not told how it ended"
    events = f" after {attempt.events} events" if attempt.is_whole else ""
    at_ms = int(end.unix_s * 1000) if end else attempt.last_ms
    # The clocks of two hosts differ.
    at_ms = None if at_ms is None else min(at_ms, after.began_ms)
    return replace(claimed, at_ms=at_ms, what="lost", text=f"{why}{events}")


def _end(life: JobLife) -> Iterator[Moment]:
    last = life.attempts[-1] if life.attempts else None
    if life.is_cancelled:
        yield Moment(life.ended_ms, "cancelled", "its client left, or asked for it")
    elif life.state == "done":
        yield Moment(life.ended_ms, "done", _used(life))
    elif life.state not in ("queued", "running"):
        why = (last and last.end) or ("it broke its workers" if life.is_poison else "")
        yield Moment(life.ended_ms, "failed", why)


def _used(life: JobLife) -> str:
    if life.use is None:
        return ""
    tokens = f"{life.use.prompt_tokens} tokens of its prompt, {life.use.completion_tokens} answered"
    return f"{tokens}, {life.use.engine_ms / 1000:.1f} s of the engine"


def with_log(found: Trace) -> Trace:
    """Return a job's life with the lines of this host's logs about it. Blocks while they are
    read."""
    return replace(found, log=tuple(_log(found)))


def _log(found: Trace) -> list[str]:
    """Return the lines that name the job or a worker that it lost, or that tell of such a worker's
    place, from its beginning to its end."""
    lost = {each.worker for each in found.moments if each.what == "lost"}
    names = {found.job_id, found.request_id, *lost, *(each.rpartition("-")[0] for each in lost)}
    times = [each.at_ms / 1000 for each in found.moments if each.at_ms is not None]
    until = times[-1] + _LATER_S if found.moments[-1].what in _ENDS else math.inf
    logs = [
        path
        for name in (found.model, "gateway", "supervisor")
        for path in logs_of(logs_dir(), name)
    ]
    lines = merged([LogFile(path).last(None, times[0]) for path in logs])
    told = [
        line.text
        for line in lines
        if line.at <= until and any(name in line.message for name in names)
    ]
    return told[-_MOST_LINES:]
