"""Jobs that have waited long for their model, and move to one that falls in for it."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Sequence
from itertools import count
from typing import Final, NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

from msgspec.structs import replace
from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.moves import MoveOutcome, move_job
from contract.media import without_contents
from contract.messages import Job
from gateway.jobs.checks import JobChecks
from gateway.jobs.defaults import with_defaults
from gateway.jobs.models import Models
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.metrics import Metrics
from gateway.streams.reply import Reply

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 0.25
#: While nobody takes it, or Redis is away.
_AGAIN_AFTER_S: Final = 1.0
#: In one look: others have their turn between.
_AT_ONCE: Final = 64


class _Movable(NamedTuple):
    """A job as it was put for the model that its request names, and its request's name in
    `KnownRequests`; empty if it has none."""

    job: Job
    request: str


class Moving:
    """Knows the jobs of this process that may move, in the order in which they will."""

    def __init__(
        self,
        db: RedisClient,
        models: Models,
        checks: JobChecks,
        dispatcher: Dispatcher,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._models = models
        self._checks = checks
        self._dispatcher = dispatcher
        self._metrics = metrics
        #: When each moves, unless it is begun; the numbers order those of one time.
        self._due: list[tuple[float, int, ReferenceType[Reply]]] = []
        #: An answer that has ended takes its job along.
        self._jobs: WeakKeyDictionary[Reply, _Movable] = WeakKeyDictionary()
        self._numbers = count()

    def watch(self, jobs: Sequence[Job], replies: Sequence[Reply], request: str = "") -> None:
        """Let a request's job that was put move in time, if it waits for the model that was asked
        for, and that has others for those that wait. Several jobs of a request stay together, where
        they are. `request` is its name in `KnownRequests`, if it may come again."""
        job, reply, wait_s = jobs[0], replies[0], self._wait_s(jobs[0].model)
        is_bound = job.moved_from or job.adapter or reply.context.route is not None
        if len(jobs) > 1 or wait_s is None or is_bound:
            return
        own = replace(without_contents(job), id=reply.job_id)
        self._jobs[reply] = _Movable(own, request)
        self._push(reply, reply.began + wait_s)

    async def run(self) -> None:
        """Move what is due, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for _ in range(min(_AT_ONCE, len(self._due))):
                if self._due[0][0] > time.monotonic():
                    break
                reply = heapq.heappop(self._due)[2]()
                if reply is not None:
                    await self._look_at(reply)

    async def _look_at(self, reply: Reply) -> None:
        movable = self._jobs[reply]
        waits = reply in self._dispatcher and not reply.attempt
        if not waits or self._wait_s(movable.job.model) is None:
            return
        try:
            is_over = await self._move(reply, movable)
        except (RedisError, OSError) as error:
            log.debug("job %s does not move: %s", reply.job_id, error)
            is_over = False
        if not is_over:
            self._push(reply, time.monotonic() + _AGAIN_AFTER_S)

    async def _move(self, reply: Reply, movable: _Movable) -> bool:
        """Move a job to the first model that takes it. Return whether it is to be looked at no
        more. Raises `RedisError`."""
        for job in self._checks.others(movable.job):
            outcome = await self._move_to(job, reply, movable)
            if outcome.what == "moved":
                self._moved(reply, movable.job, outcome)
            if outcome.what in ("moved", "stays"):
                return True
        return False

    async def _move_to(self, job: Job, reply: Reply, movable: _Movable) -> MoveOutcome:
        limits, config = self._models.limits, self._models.configured[job.model]
        whole = with_defaults(job, config, limits.max_output_len)
        return await move_job(
            self._db,
            whole if reply.trace is None else replace(whole, trace=reply.trace.context),
            former=movable.job.model,
            max_waiting=limits.max_waiting,
            max_bytes=limits.max_waiting_bytes,
            request=movable.request,
        )

    def _moved(self, reply: Reply, former: Job, outcome: MoveOutcome) -> None:
        log.info("job %s moves from %s to %s", reply.job_id, former.model, outcome.model)
        self._metrics.count_move(former.model, outcome.model, "wait")
        reply.context.moved_by, reply.position = "wait", outcome.waiting
        if reply in self._dispatcher:
            self._metrics.of(reply.model).open -= 1
            reply.model = reply.context.model = outcome.model
            reply.metrics = self._metrics.of(reply.model)
            reply.metrics.open += 1
        if reply.answer is not None:
            job = replace(former, model=outcome.model, moved_from=former.model)
            reply.answer.rename(self._models.served_name(job))

    def _wait_s(self, model: str) -> float | None:
        config = self._models.configured.get(model)
        return config.fallback.after_wait_s if config and config.fallback else None

    def _push(self, reply: Reply, due: float) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), ref(reply)))
