"""A worker's part in a queue: its claims, the attempts that it begins, their records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from contract.bus.client import RedisClient
from contract.bus.turns import QueuePlace
from contract.media import media_of, with_contents
from contract.messages import UNREADABLE, Job
from contract.usage import NO_USE, JobUse
from contract.wire import decode_job

#: A worker that did not wait any more leaves its interruption behind.
_INTERRUPTS_FOR_MS: Final = 2_000


class Claim(NamedTuple):
    """A queue entry that a worker holds, not begun yet. `job` is None if it could not be read.
    `aged`: its turn came because its lane had none for long."""

    entry: str
    job: Job | None
    job_id: str
    aged: bool = False


class Waiting(NamedTuple):
    """A queue entry that no worker holds, and its place among the others."""

    entry: str
    place: QueuePlace


class Attempt(NamedTuple):
    """A begun job. `number` fences: of two attempts at one job, only the higher counts, and no
    number is ever given twice. `ordinal` counts the attempts at this job from 1, as far as Redis
    knows: one that lost its last writes counts again what it does not know of."""

    job: Job
    entry: str
    number: int
    reply: str
    first: str
    left_ms: int = 0
    ordinal: int = 1
    aged: bool = False


class Ended(NamedTuple):
    """An attempt that has ended, with its state (`done`, `failed`, `retryable`, `cancelled`) and
    what its job used: tokens through all attempts, and the engine's time in this one."""

    attempt: Attempt
    state: str
    use: JobUse = NO_USE

    def words(self) -> tuple[Any, ...]:
        """Return the end as `scripts/complete.lua` takes it."""
        return (self.attempt.entry, self.attempt.number, self.state, self.use.words())


class Record(NamedTuple):
    """The record of a job's losses: workers that it `lost`, be it to blame or not, since it last
    got on with one to itself; how often it did (`acquitted`); and whether it is `in_doubt`: it had
    the last one to itself, which may have been killed."""

    lost: int
    acquitted: int
    in_doubt: bool = False


class JobWait:
    """Where the workers of one model wait until there are jobs to claim."""

    def __init__(self, db: RedisClient, model: str) -> None:
        self._db = db
        self._key = f"ew:{{{model}}}:wake"

    async def wait(self, reader: RedisClient, worker: str, block_ms: int) -> bool:
        """Wait up to `block_ms` for jobs, or for `interrupt`. Return whether there may be any.
        Never cancel this call."""
        own = self._own_key(worker)
        woken = await reader.blpop([own, self._key], block_ms / 1000)
        return woken is not None and woken[0] != own.encode()

    async def interrupt(self, worker: str) -> None:
        """End the wait of one worker: the one that is under way, or the next if that begins soon.
        Raises `RedisError`."""
        pipe = self._db.pipeline(transaction=True)
        pipe.rpush(self._own_key(worker), 1)
        pipe.pexpire(self._own_key(worker), _INTERRUPTS_FOR_MS)
        await pipe.execute()

    def _own_key(self, worker: str) -> str:
        return f"{self._key}:{worker}"


class MediaGone(Exception):
    """The images and the like of a job are not kept any more."""

    def __init__(self) -> None:
        super().__init__("the images of this request are not kept any more; send it again")


class BeginRefused(NamedTuple):
    """A job that will not be run, though its client still waits for a word. Its attempt must be
    completed all the same, after the client was told."""

    attempt: Attempt
    reason: str


def read_job(fields: Mapping[bytes, bytes]) -> Job | None:
    """Return the job of a queue entry; None if it cannot be read."""
    try:
        return decode_job(fields[b"job"])
    except (KeyError, *UNREADABLE):
        return None


async def read_media(db: RedisClient, job_key: str, job: Job) -> Job:
    """Return a job with the bytes of its media, which were put beside it (`scripts/media.lua`).
    Raises `MediaGone`, `RedisError`."""
    digests = list({each.digest for each in media_of(job)})
    found = await db.hmget(f"{job_key}:media", digests)
    pairs = zip(digests, found, strict=True)
    try:
        return with_contents(job, {name: data for name, data in pairs if data is not None})
    except KeyError:
        raise MediaGone from None
