"""Jobs that were given up: each broke its workers, or could not be read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

from contract.bus.claims import Claim, read_job
from contract.bus.client import RedisClient
from contract.endings import LETTER_DAYS
from contract.messages import Job

log = logging.getLogger(__name__)
#: How many of a model are kept: each has its whole job.
_MOST_LETTERS: Final = 100


class DeadLetter(NamedTuple):
    """One job that was given up: for the `reason` `poison` (`workers` are those that it broke) or
    `unreadable`: its record cannot be read, or its entry, and then there is no `job`. `entry` is
    its id in the stream."""

    model: str
    entry: str
    reason: str
    workers: tuple[str, ...] = ()
    job: Job | None = None

    @property
    def id(self) -> str:
        return self.job.id if self.job else self.entry

    @property
    def unix_s(self) -> float:
        return int(self.entry.partition("-")[0]) / 1000

    @classmethod
    def read(cls, model: str, entry: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
        """Return what the stream has."""
        reason, workers = (fields.get(name, b"").decode() for name in (b"reason", b"workers"))
        return cls(model, entry.decode(), reason, tuple(workers.split()), read_job(fields))


class DeadLetters:
    """Those of one model, kept for `keep_days`: a stream, to which `begin.lua` adds. `bounds` is
    how many it has at most, and for how many milliseconds."""

    def __init__(self, db: RedisClient, model: str, keep_days: int = LETTER_DAYS) -> None:
        self._db = db
        self._model = model
        self.bounds = (_MOST_LETTERS, keep_days * 86_400_000)
        self.key = f"ew:{{{model}}}:dead"

    async def take(self, queue_key: str, group: str, claim: Claim, why: str) -> None:
        """Take a job that cannot be read, as `why` says, out of its queue. Raises `RedisError`."""
        entry = claim.entry
        log.error("job %s (entry %s) is a dead letter: %s", claim.job_id or "?", entry, why)
        most, keep_ms = self.bounds
        entries = await self._db.xrange(queue_key, entry, entry)
        pipe = self._db.pipeline(transaction=True)
        for _, fields in entries:
            pipe.xadd(
                self.key, {b"reason": b"unreadable", **fields}, maxlen=most, approximate=False
            )
        pipe.pexpire(self.key, keep_ms)
        pipe.xack(queue_key, group, entry)
        pipe.xdel(queue_key, entry)
        await pipe.execute()

    async def letters(self) -> list[DeadLetter]:
        """Return all that are kept, the oldest first. Raises `RedisError`."""
        seconds, _ = await self._db.time()
        oldest = (int(seconds) * 1000) - self.bounds[1]
        found = await self._db.xrange(self.key, max(0, oldest))
        return [DeadLetter.read(self._model, *each) for each in found]

    async def drop(self, entry: str) -> bool:
        """Forget one. False if it is not there. Raises `RedisError`."""
        return bool(await self._db.xdel(self.key, entry))

    async def broken_since(self, letter: str) -> tuple[frozenset[str], str]:
        """Return the workers of jobs that turned out as poison, since that dead letter; and the
        last one now. Raises `RedisError`."""
        dead = await self._db.xrange(self.key, f"({letter}")
        workers = b" ".join(fields.get(b"workers", b"") for _, fields in dead)
        last = dead[-1][0].decode() if dead else letter
        return frozenset(workers.decode().split()), last
