"""Cancellations: announced by gateways, heard by the workers of one model."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from contract.bus.client import BLOCK_MS, LuaScript, RedisClient, entries_of, last_id
from contract.bus.queue import GROUP, KEEP_MS, JobQueue

log = logging.getLogger(__name__)
_cancel = LuaScript(
    "cancel", "apart", "jobs", "turns", "media", "limits", "lives", "usage", even_if_full=True
)


class Cancellations:
    """The cancelled jobs of one model."""

    def __init__(self, db: RedisClient, model: str) -> None:
        self.db = db
        self.queue = JobQueue(db, model)
        self.key = f"ew:{{{model}}}:cancel"
        self._last = ""

    async def open(self) -> None:
        """Listen from now on, whenever `listen` is called."""
        self._last = await last_id(self.db, self.key)

    async def announce(self, job_id: str) -> bool:
        """Cancel a job: out of the queue, or by its worker. False if it had ended already."""
        return (await self.announce_all([job_id]))[0]

    async def announce_all(self, job_ids: Sequence[str]) -> list[bool]:
        """The same for several, in one round trip. Safe to repeat. A job whose record cannot be
        read counts as ended."""
        keys = [self.key, self.queue.key, self.queue.leases_key]
        calls = [
            ([self.queue.job_key(job_id), *keys], [job_id, GROUP, KEEP_MS]) for job_id in job_ids
        ]
        answers = await _cancel.map(self.db, calls)
        return [await self._was_open(*each) for each in zip(job_ids, answers, strict=True)]

    async def _was_open(self, job_id: str, answer: int | bytes | list[bytes]) -> bool:
        if isinstance(answer, bytes):
            # It has moved to another model.
            return await Cancellations(self.db, answer.decode()).announce(job_id)
        if isinstance(answer, list):
            log.error("job %s cannot be cancelled: %s", job_id, answer[1].decode())
            return False
        return bool(answer)

    async def listen(self, reader: RedisClient) -> AsyncIterator[str]:
        """Job ids cancelled since `open`, or since it was last called (none is left out by a
        reconnect). An empty one says that a key begins to wait, while workers have no room. Ends
        only by an error of the connection."""
        if not self._last:
            await self.open()
        while True:
            answer = await reader.execute_command(
                "XREAD", "COUNT", 1000, "BLOCK", BLOCK_MS, "STREAMS", self.key, self._last
            )
            for entry, fields in entries_of(answer):
                self._last = entry
                yield fields[b"job"].decode()
