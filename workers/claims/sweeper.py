"""Jobs that a worker need not do any more: nobody waits for them, or another worker has them."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from redis.exceptions import RedisError

from contract.bus.queue import JobQueue
from workers.claims.audience import Audience
from workers.claims.job_consumer import JobConsumer
from workers.engine import Engine
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_SWEEP_EVERY_S: Final = 0.5


class Sweeper:
    """Looks for such jobs, and cancels them in the engine."""

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        outbox: Outbox,
        consumer: JobConsumer,
        audience: Audience,
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._consumer = consumer
        self._audience = audience
        self._lapse_seen = False

    async def run(self) -> None:
        """Drop jobs for which no client waits, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S * random.uniform(0.75, 1.25))  # noqa: S311
            try:
                await self._drop_abandoned()
                await self._drop_unwanted()
                await self._consumer.look_for_forgotten()
            except RedisError as error:
                log.warning("sweeping again soon: %s", error)

    async def _drop_abandoned(self) -> None:
        for job_id in self._outbox.take_abandoned():
            await self._engine.cancel(job_id)

    async def _drop_unwanted(self) -> None:
        await self._audience.look({attempt.reply for attempt in self._outbox.attempts()})
        for attempt in self._outbox.attempts():
            if self._audience.is_gone(attempt):
                await self._consumer.cancel(attempt.job.id)

    def lapsed(self) -> None:
        """Take note that the worker's lease had ended: others may have taken its jobs over."""
        log.warning("the lease had lapsed; looking which jobs are still ours")
        self._lapse_seen = True

    async def drop_lost(self) -> None:
        """Drop what others have taken over, if the lease has lapsed since this was done last."""
        if not self._lapse_seen:
            return
        attempts = self._outbox.attempts()
        try:
            owners = await self._queue.owners([attempt.job.id for attempt in attempts])
        except RedisError as error:
            log.warning("looking again soon: %s", error)
            return
        self._lapse_seen = False
        for attempt in attempts:
            is_lost = owners.get(attempt.job.id) != attempt.number
            if is_lost and self._outbox.is_open(attempt):
                self._outbox.withdraw(attempt.job.id)
                self._outbox.fenced_total += 1
                await self._engine.cancel(attempt.job.id)
        self._consumer.look_again()
