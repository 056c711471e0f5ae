"""The life of one job, as far as Redis has it: its record in the queue, and what was published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from contract.bus.client import RedisClient
from contract.bus.queue import JobQueue
from contract.bus.replies import entry_order, scan_frames
from contract.bus.turns import QueuePlace
from contract.messages import Delta, Done, Failed, Started


class AttemptLife(NamedTuple):
    """One attempt at a job. Times are Unix ms by Redis' clock: when it was begun, and when the
    first and last of its `events` of the answer were published. These are known only while the
    stream has all of the attempt (`is_whole`): not for long once the job has ended, unless its
    answer may be asked for again. `end` is how the job ended in it: `done`, or the code and message
    of an error."""

    number: int
    worker: str
    began_ms: int
    first_ms: int | None = None
    last_ms: int | None = None
    events: int = 0
    is_whole: bool = False
    end: str = ""


class JobLife(NamedTuple):
    """A job in the queue of `model`, put at `queued_ms` by a `gateway` process; `yielded` is how
    often it gave up its place so that another had its turn."""

    model: str
    job_id: str
    state: str
    gateway: str
    queued_ms: int
    key_id: str
    yielded: int
    attempts: tuple[AttemptLife, ...]
    ended_ms: int | None = None
    is_cancelled: bool = False
    is_poison: bool = False


async def job_life(db: RedisClient, model: str, job_id: str) -> JobLife | None:
    """Return the life of a job of this model; None if its record is not there (any more). Reads the
    reply stream from the job's first event to its end. Raises `RedisError`."""
    found = await db.hgetall(JobQueue(db, model).job_key(job_id))
    record = {name.decode(): value.decode(errors="replace") for name, value in found.items()}
    if "state" not in record:
        return None
    state = "cancelled" if "cancelled" in record else record["state"]
    return JobLife(
        model=model,
        job_id=job_id,
        state=state,
        gateway=record["reply"].rpartition(":")[2],
        queued_ms=entry_order(record["entry"])[0],
        key_id=QueuePlace.read(record["place"]).key_id if "place" in record else "",
        yielded=int(record.get("yielded", 0)),
        attempts=tuple((await _published(db, record, job_id)).values()),
        ended_ms=int(record["ended"]) if "ended" in record else None,
        is_cancelled=state == "cancelled",
        is_poison="poison" in record,
    )


async def _published(
    db: RedisClient, record: Mapping[str, str], job_id: str
) -> dict[int, AttemptLife]:
    """Return the attempts by their numbers, in the order in which they were begun."""
    begun = zip(record.get("began", "").split(), record.get("workers", "").split(), strict=False)
    lives = {int(n): AttemptLife(int(n), worker, int(n) // 1000) for n, worker in begun}
    async for entry, frame in scan_frames(db, record["reply"], record["first"]):
        for envelope in frame:
            life = lives.get(envelope.attempt)
            if envelope.job_id == job_id and life is not None:
                lives[envelope.attempt] = _with(life, entry_order(entry)[0], envelope.event)
        if lives and next(reversed(lives.values())).end:
            break
    return lives


def _with(life: AttemptLife, at_ms: int, event: object) -> AttemptLife:
    match event:
        case Started():
            return life._replace(is_whole=True)
        case Delta() if life.is_whole:
            first_ms = life.first_ms or at_ms
            return life._replace(first_ms=first_ms, last_ms=at_ms, events=life.events + 1)
        case Done():
            return life._replace(last_ms=at_ms, end="done")
        case Failed(code=code, message=message):
            return life._replace(last_ms=at_ms, end=f"{code.value}: {message}")
        case _:
            return life
