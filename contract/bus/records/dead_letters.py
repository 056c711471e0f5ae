"""Jobs that were given up: each broke its workers, or could not be read."""

from __future__ import annotations

from typing import Final

from contract.bus.client import RedisClient

#: How many dead letters of a model are kept (each has its whole job), and for how many ms.
LETTER_BOUNDS: Final = (100, 7 * 86_400_000)


class DeadLetters:
    """Those of one model: a stream, to which `begin.lua` adds."""

    def __init__(self, db: RedisClient, model: str) -> None:
        self._db = db
        self.key = f"ew:{{{model}}}:dead"

    async def move(self, queue_key: str, group: str, entry: str, reason: str) -> None:
        """Move an entry here from a queue. Raises `RedisError`."""
        most, keep_ms = LETTER_BOUNDS
        entries = await self._db.xrange(queue_key, entry, entry)
        pipe = self._db.pipeline(transaction=True)
        for _, fields in entries:
            pipe.xadd(self.key, {b"reason": reason, **fields}, maxlen=most, approximate=False)
        pipe.pexpire(self.key, keep_ms)
        pipe.xack(queue_key, group, entry)
        pipe.xdel(queue_key, entry)
        await pipe.execute()

    async def broken_since(self, letter: str) -> tuple[frozenset[str], str]:
        """Return the workers of jobs that turned out as poison, since that dead letter; and the
        last one now. Raises `RedisError`."""
        dead = await self._db.xrange(self.key, f"({letter}")
        workers = b" ".join(fields.get(b"workers", b"") for _, fields in dead)
        last = dead[-1][0].decode() if dead else letter
        return frozenset(workers.decode().split()), last
