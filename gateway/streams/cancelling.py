"""Tells workers which jobs are cancelled, also across an outage of Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import Final

from redis.exceptions import RedisError

from contract.bus.cancellations import Cancellations
from contract.bus.client import RedisClient
from contract.bus.queue import JobQueue
from contract.bus.replies import publish
from contract.bus.whereabouts import whereabouts
from contract.messages import Envelope, ErrorCode, Failed
from contract.process.tasks import cancel_and_wait
from contract.wire import encode_frame

log = logging.getLogger(__name__)
_RETRY_S: Final = 0.25
#: While Redis is away, and others ask for it, too.
_SLOWEST_RETRY_S: Final = 1.0
_PUT_MAY_ARRIVE_S: Final = 3.0


async def cancel_for_all(db: RedisClient, model: str, job_id: str) -> bool:
    """Cancel a job for all who wait for it: its worker, its client or keeper, readers of its
    stream. Return whether it was open; safe to repeat. Raises `RedisError`."""
    was_open = await Cancellations(db, model).announce(job_id)
    found = await whereabouts(JobQueue(db, model), job_id)
    if found is not None:
        # No worker begins it any more, so this is the last word on it.
        event = Failed(ErrorCode.CANCELLED, "the job was cancelled")
        frame = encode_frame([Envelope(job_id, found.attempt, 0, event)])
        await publish(db, [(found.ticket.reply, frame)])
    return was_open


class _Order:
    """A job to be cancelled, until that is known to have been heard, or `ends_at`. It may arrive
    in Redis only later, for `watch_s` of the time in which Redis answers."""

    __slots__ = ("ends_at", "model", "told", "watch_s")

    def __init__(self, model: str, watch_s: float, ends_at: float) -> None:
        self.model = model
        self.watch_s = watch_s
        self.ends_at = ends_at
        self.told = asyncio.Event()


class Canceller:
    """Announces cancellations from a task of its own, so that the caller may be cancelled
    itself. While Redis is away they are kept, each for `keep_s`: no job runs longer."""

    def __init__(self, db: RedisClient, keep_s: float) -> None:
        self._db = db
        self._keep_s = keep_s
        self._orders: dict[str, _Order] = {}
        self._running: asyncio.Task[None] | None = None
        self._retry_s = _RETRY_S

    def __len__(self) -> int:
        return len(self._orders)

    def cancel(self, model: str, job_id: str) -> None:
        """Returns at once."""
        self._take(model, job_id, 0.0)

    def cancel_doubtful(self, model: str, job_id: str) -> None:
        """Cancel a job that may not have arrived in Redis yet, if it ever will."""
        self._take(model, job_id, _PUT_MAY_ARRIVE_S)

    async def told(self, job_id: str) -> None:
        """Return when no cancellation of this job is under way: a request for it again is to find
        that it was cancelled."""
        if order := self._orders.get(job_id):
            try:
                await asyncio.wait_for(order.told.wait(), _RETRY_S)
            except TimeoutError:
                return

    async def finish(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        if self._running is not None:
            await asyncio.wait([self._running], timeout=timeout_s)
            await cancel_and_wait([self._running])

    def _take(self, model: str, job_id: str, watch_s: float) -> None:
        self._orders[job_id] = _Order(model, watch_s, time.monotonic() + self._keep_s)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Until nothing is left to be told."""
        while self._orders:
            try:
                await self._announce_all()
                self._retry_s = _RETRY_S
            except (RedisError, OSError) as error:
                log.debug("%d jobs are not cancelled yet: %s", len(self._orders), error)
                self._give_up_late_ones()
                self._retry_s = min(2 * self._retry_s, _SLOWEST_RETRY_S)
            if self._orders:
                await asyncio.sleep(self._retry_s)

    async def _announce_all(self) -> None:
        by_model: defaultdict[str, list[str]] = defaultdict(list)
        for job_id, order in self._orders.items():
            by_model[order.model].append(job_id)
        for model, job_ids in by_model.items():
            were_open = await Cancellations(self._db, model).announce_all(job_ids)
            for job_id, was_open in zip(job_ids, were_open, strict=True):
                self._answered(job_id, was_open=was_open)

    def _answered(self, job_id: str, *, was_open: bool) -> None:
        order = self._orders.get(job_id)
        if order is None:
            return
        order.watch_s -= _RETRY_S
        if was_open or order.watch_s <= 0:
            self._forget(job_id)

    def _give_up_late_ones(self) -> None:
        now = time.monotonic()
        for job_id in [each for each, order in self._orders.items() if now > order.ends_at]:
            log.warning("job %s could not be cancelled: Redis is away for too long", job_id)
            self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        self._orders.pop(job_id).told.set()
