"""The end of claims before their answers have ended: the worker is to sleep, or to leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import RedisError

from contract.bus.claims import Attempt
from contract.bus.queue import JobQueue
from contract.process.tasks import cancel_and_wait
from contract.usage import JobUse
from workers.claims.places import Places
from workers.engine import Engine
from workers.outbox import Outbox

log = logging.getLogger(__name__)
#: The most that giving jobs back may take; beyond it they are taken over later.
_FAREWELL_S: Final = 5.0


class Draining:
    """Lets answers end for `drain_s`, and gives the other jobs back."""

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        outbox: Outbox,
        places: Places,
        worker: str,
        drain_s: float,
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._places = places
        self._worker = worker
        self._drain_s = drain_s
        #: No answer is worth waiting for beyond `drain_s`.
        self.hurried = asyncio.Event()

    async def drain(self) -> None:
        """Let answers come to their ends, for a while; then only those that no other worker
        could go on with, unless there is a hurry. Raises `EngineDied`."""
        emptied = asyncio.create_task(self._outbox.wait_until_empty())
        hurried = asyncio.create_task(self.hurried.wait())
        either: list[asyncio.Future[Any]] = [emptied, self._outbox.died]
        try:
            await asyncio.wait(either, timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
            if self._outbox.died.done():
                # Its answers stay open, as when it dies at any other time: a job may be to blame.
                await self._outbox.died
            movable = self._places.movable()
            answers = not movable or await self._give_back(movable)
            # While Redis is gone, nothing is worth another try but answers that are still open.
            if answers or self._outbox.attempts():
                await asyncio.wait([*either, hurried], return_when=asyncio.FIRST_COMPLETED)
                await self._give_back(self._outbox.attempts())
        finally:
            await cancel_and_wait([emptied, hurried])

    async def _give_back(self, unfinished: list[Attempt]) -> bool:
        """Publish what was said, and release these attempts. Return False if Redis did not
        answer."""
        uses = {each.job.id: self._outbox.withdraw(each.job.id) for each in unfinished}
        for attempt in unfinished:
            await self._engine.cancel(attempt.job.id)
        try:
            await asyncio.wait_for(self._release(unfinished, uses), _FAREWELL_S)
        except (RedisError, asyncio.TimeoutError) as error:
            log.warning("%d jobs are left to be taken over: %r", len(unfinished), error)
            return False
        return True

    async def _release(self, unfinished: list[Attempt], uses: Mapping[str, JobUse]) -> None:
        await self._outbox.flush()
        await self._queue.release(self._worker, unfinished, uses)
        log.info("drained; %d jobs given back", len(unfinished))
