"""How much memory is left where queues and answers are kept: nothing new is let in before it is
short, so that what is under way has room to end."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.limits import MEMORY_FOR_BATCH_JOBS, MEMORY_FOR_JOBS

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
_LOOK_TIMEOUT_S: Final = 1.0


class QueueMemory:
    """As Redis says, about once a second. One without `maxmemory`, or that does not say, is taken
    to have enough."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db
        self._left: float | None = None
        self._for_others = 0.0

    def take(self, size: int, *, is_batch: bool) -> bool:
        """Return whether so many bytes may come in. They count until the next look. Jobs of the
        class `batch` leave some room to others."""
        if self._left is None:
            return True
        self._left -= size
        return self._left >= (self._for_others if is_batch else 0)

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_TIMEOUT_S):
                    info = await self._db.info("memory")
            except (RedisError, OSError) as error:
                log.debug("the memory of Redis is not known: %s", error)
                self._left = None
            else:
                most = info.get("maxmemory", 0)
                self._left = most * MEMORY_FOR_JOBS - info["used_memory"] if most else None
                self._for_others = most * (MEMORY_FOR_JOBS - MEMORY_FOR_BATCH_JOBS)
            await asyncio.sleep(_LOOK_EVERY_S)
