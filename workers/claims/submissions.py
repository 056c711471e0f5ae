"""Jobs on their way to the engine, in the order of their claims.

To give an engine a job takes CPU time in this process, and many jobs come at once. Neither the next
claims wait until all are with the engine, nor the first tokens of those that are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from redis.exceptions import RedisError

from contract.asked import MediaKind
from contract.bus.claims import Attempt, MediaGone, read_media
from contract.bus.queue import JobQueue
from contract.media import media_of
from contract.messages import ErrorCode, Job
from workers.engine import Engine, JobRejected, ReadsAhead, check_media, check_speech
from workers.outbox import Outbox

log = logging.getLogger(__name__)
#: So long at a time, the loop does nothing else. The engine's word passes some six turns of the
#: loop on its way to Redis.
_TURN_S: Final = 0.001
#: So many prompts are read at once. The first job of them waits for that.
_READ_AT_ONCE: Final = 16
_READ_AGAIN_S: Final = 0.25


class Submissions:
    """Gives the open answers of an outbox to the engine. `spawn` has work done in a task."""

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        outbox: Outbox,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.takes: tuple[MediaKind, ...] = ()
        self.transcribes = False
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._spawn = spawn
        self._waiting: deque[Attempt] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Submit the jobs of these soon, unless their answers have ended by then."""
        for attempt in attempts:
            if media_of(attempt.job):  # Its bytes come without holding up the next jobs.
                self._spawn(self.submit(attempt.job))
            else:
                self._waiting.append(attempt)
        if self._waiting and self._idle.is_set():
            self._idle.clear()
            self._spawn(self._submit_waiting())

    async def wait_until_idle(self) -> None:
        """Return when none that was added waits any more, but for those with media."""
        await self._idle.wait()

    async def submit(self, job: Job) -> None:
        """Submit a job now. If it cannot be, its answer fails."""
        if job.id not in self._outbox:
            return
        try:
            check_media(job, self.takes)
            check_speech(job, transcribes=self.transcribes)
            whole = await self._whole(job) if media_of(job) else job
            self._outbox.submitting(job.id)
            await self._engine.submit(whole)
        except JobRejected as error:
            self._outbox.failed(job.id, error.code, str(error))
        except MediaGone as error:
            self._outbox.failed(job.id, ErrorCode.LOST, str(error), retryable=True)
        # Engines raise what they like; one job's error must not end the worker of all.
        except Exception:
            log.exception("job %s could not be submitted", job.id)
            self._outbox.failed(job.id, ErrorCode.ENGINE_FAILED, "the engine failed on this job")
        if job.id not in self._outbox:
            await self._engine.cancel(job.id)

    async def _submit_waiting(self) -> None:
        began = time.monotonic()
        try:
            while self._waiting:
                for attempt in self._read_next():
                    # It may have been taken away, and have come back as another attempt.
                    if self._outbox.is_open(attempt):
                        await self.submit(attempt.job)
                    if time.monotonic() - began > _TURN_S:
                        await asyncio.sleep(0)
                        began = time.monotonic()
        finally:
            self._idle.set()

    def _read_next(self) -> list[Attempt]:
        """Take those that are submitted next, and have the engine read their prompts."""
        count = min(len(self._waiting), _READ_AT_ONCE)
        attempts = [self._waiting.popleft() for _ in range(count)]
        if isinstance(self._engine, ReadsAhead):
            self._engine.read_ahead([each.job for each in attempts if self._outbox.is_open(each)])
        return attempts

    async def _whole(self, job: Job) -> Job:
        """Return a job with its media, once Redis answers. Raises `MediaGone`."""
        job_key = self._queue.job_key(job.id)
        while True:
            try:
                return await read_media(self._queue.db, job_key, job)
            except RedisError as error:
                log.warning("reading again in %s s: %s", _READ_AGAIN_S, error)
            await asyncio.sleep(_READ_AGAIN_S)
