"""The life of one job, as far as Redis has it: its record in the queue, and what was published;
later what is kept of jobs that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from contract.bus.client import RedisClient
from contract.bus.queue import JobQueue
from contract.bus.replies import entry_order, scan_frames
from contract.bus.turns import QueuePlace
from contract.messages import Delta, Done, Failed, Started
from contract.usage import JobUse

#: Lives that are looked through in one round trip.
_READ_AT_ONCE: Final = 1_000


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
    often it gave up its place so that another had its turn, and `use` what it used, once it has
    ended and its record is gone."""

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
    use: JobUse | None = None
    #: The models that it came from, and went to, while it waited; and its life in the former queue.
    moved_from: str = ""
    moved_to: str = ""
    before: JobLife | None = None


async def job_life(db: RedisClient, model: str, job_id: str) -> JobLife | None:
    """Return the life of a job of this model, or of that to which it has moved; None if nothing is
    known of it (any more). Reads the reply stream from the job's first event to its end. Raises
    `RedisError`."""
    life = await _life_in(db, model, job_id)
    if life is not None and life.moved_to:
        life = await _life_in(db, life.moved_to, job_id) or life
    if life is None or not life.moved_from:
        return life
    return life._replace(before=await _life_in(db, life.moved_from, job_id))


async def _life_in(db: RedisClient, model: str, job_id: str) -> JobLife | None:
    found = await db.hgetall(JobQueue(db, model).job_key(job_id))
    record = {name.decode(): value.decode(errors="replace") for name, value in found.items()}
    if "state" not in record:
        return await _kept_life(db, model, job_id)
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
        moved_from=record.get("moved_from", ""),
        moved_to=record.get("moved_to", ""),
    )


async def _kept_life(db: RedisClient, model: str, job_id: str) -> JobLife | None:
    """Return what `scripts/lives.lua` has kept of a job that has ended."""
    last = "+"
    beginning = f"{job_id} ".encode()
    while found := await db.xrevrange(f"ew:{{{model}}}:lives", last, "-", _READ_AT_ONCE):
        for entry, fields in found:
            if fields[b"job"].startswith(beginning):
                return _read_life(model, entry, {k.decode(): v.decode() for k, v in fields.items()})
        last = f"({found[-1][0].decode()}"
    return None


def _read_life(model: str, entry: bytes, fields: Mapping[str, str]) -> JobLife:
    job_id, state, key_id, queued, reply, yielded, poison = fields["job"].split(" ")
    return JobLife(
        model=model,
        job_id=job_id,
        state=state,
        gateway=reply.rpartition(":")[2],
        queued_ms=entry_order(queued)[0],
        key_id=key_id,
        yielded=int(yielded),
        attempts=tuple(_begun(fields).values()),
        ended_ms=entry_order(entry.decode())[0],
        is_cancelled=state == "cancelled",
        is_poison=poison == "1",
        use=JobUse(*(int(float(each)) for each in fields["use"].split())),
        moved_from=fields.get("from", ""),
        moved_to=fields.get("to", ""),
    )


def _begun(record: Mapping[str, str]) -> dict[int, AttemptLife]:
    """Return the attempts by their numbers, in the order in which they were begun."""
    # Of very many, the first may have been cut off.
    numbers, workers = record.get("began", "").split(), record.get("workers", "").split()
    kept = min(len(numbers), len(workers))
    begun = zip(numbers[len(numbers) - kept :], workers[len(workers) - kept :], strict=True)
    return {int(n): AttemptLife(int(n), worker, int(n) // 1000) for n, worker in begun}


async def _published(
    db: RedisClient, record: Mapping[str, str], job_id: str
) -> dict[int, AttemptLife]:
    """Return the attempts by their numbers, in the order in which they were begun."""
    lives = _begun(record)
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
