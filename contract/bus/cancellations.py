"""Cancellations: announced by gateways, heard by the workers of one model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from contract.bus.client import BLOCK_MS, LuaScript, RedisClient, entries_of, last_id
from contract.bus.queue import GROUP, KEEP_MS, JobQueue

_cancel = LuaScript(
    "cancel", "jobs", "turns", "media", "limits", "lives", "usage", even_if_full=True
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
        """The same for several, in one round trip. Safe to repeat."""
        keys = [self.key, self.queue.key, self.queue.leases_key]
        calls = [
            ([self.queue.job_key(job_id), *keys], [job_id, GROUP, KEEP_MS]) for job_id in job_ids
        ]
        answers = await _cancel.map(self.db, calls)
        return [
            await self._announce_to(answer.decode(), job_id)
            if isinstance(answer, bytes)
            else bool(answer)
            for job_id, answer in zip(job_ids, answers, strict=True)
        ]

    async def _announce_to(self, model: str, job_id: str) -> bool:
        """Cancel a job that has moved to another model."""
        return await Cancellations(self.db, model).announce(job_id)

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
