"""The use of a worker's jobs so far, told to Redis every second: it is all that is known of them
if the worker is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redis.exceptions import RedisError

from contract.bus.records.use_progress import UseProgress
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_EVERY_S: Final = 0.8


class UseReports:
    """Of the open answers of an outbox."""

    def __init__(self, progress: UseProgress, outbox: Outbox, worker: str) -> None:
        self._progress = progress
        self._outbox = outbox
        self._worker = worker
        self._told: set[str] = set()

    async def run(self) -> None:
        """Tell it until cancelled. What ends in less than a second is not told of, but counted when
        it ends."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.tell()
            except RedisError as error:
                log.warning("telling what jobs use again soon: %s", error)

    async def tell(self) -> None:
        """Tell what each open answer has used, and forget those that have ended. Raises
        `RedisError`."""
        uses = {each.attempt.job.id: each.use() for each in self._outbox.answers()}
        ended = self._told - uses.keys()
        if uses or ended:
            await self._progress.note(self._worker, uses, ended)
            self._told = {*uses}
