"""Word to the workers that nobody waits for a job any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.queue import Cancellations
from contract.tasks import cancel_and_wait

log = logging.getLogger(__name__)
_RETRY_S: Final = 0.25
_GIVE_UP_S: Final = 60.0
_PUT_MAY_ARRIVE_S: Final = 3.0


class Canceller:
    """Announces cancellations from tasks of its own, so that whoever asks for one may be
    cancelled itself, and tries again while Redis is away."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db
        self._tasks: dict[asyncio.Task[None], str] = {}

    def cancel(self, model: str, job_id: str) -> None:
        """Returns at once."""
        self._start(job_id, self._announce(model, job_id, 0.0))

    def cancel_doubtful(self, model: str, job_id: str) -> None:
        """Cancel a job that may not have arrived in Redis yet, if it ever will."""
        self._start(job_id, self._announce(model, job_id, _PUT_MAY_ARRIVE_S))

    async def told(self, job_id: str) -> None:
        """Return when no cancellation of this job is under way: who asks for it again is to find
        that it was cancelled."""
        if under_way := [task for task, id_ in self._tasks.items() if id_ == job_id]:
            await asyncio.wait(under_way, timeout=_RETRY_S)

    async def finish(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        await cancel_and_wait(self._tasks)

    def _start(self, job_id: str, announcement: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(announcement)
        self._tasks[task] = job_id
        task.add_done_callback(self._tasks.pop)

    async def _announce(self, model: str, job_id: str, watch_s: float) -> None:
        cancellations = Cancellations(self._db, model)
        began = answered = time.monotonic()
        while answered - began < _GIVE_UP_S:
            try:
                if await cancellations.announce(job_id) or watch_s <= 0:
                    return
                watch_s -= _RETRY_S
            except (RedisError, OSError) as error:
                log.debug("job %s is not cancelled yet: %s", job_id, error)
            await asyncio.sleep(_RETRY_S)
            answered = time.monotonic()
        log.warning("job %s could not be cancelled: Redis is away for too long", job_id)
