"""The worker: starts its engine, serves jobs until told to stop, and drains."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final

from redis.exceptions import RedisError

from contract.bus.cancellations import Cancellations
from contract.bus.client import connect, connect_reader, wait_for_server
from contract.bus.queue import JobQueue
from contract.bus.records.use_progress import UseProgress
from contract.config import WorkerSpec
from contract.messages import Heartbeat, State
from contract.process.tasks import cancel_and_wait
from workers.claims.audience import Audience
from workers.claims.draining import Draining
from workers.claims.job_consumer import JobConsumer
from workers.claims.places import Places
from workers.claims.sweeper import Sweeper
from workers.engine import Engine, EngineReport, SupportsSleep
from workers.engine_state import EngineHung, was_child_killed
from workers.fetching import Fetching
from workers.heartbeat import LOADING, WorkerHeartbeat, heartbeat_of
from workers.outbox import Outbox
from workers.usage.use_reports import UseReports
from workers.watching.watchdog import Watchdog

log = logging.getLogger(__name__)
_RECONNECT_S: Final = 0.25
_FIRST_ANSWER: Final = "answering a first request"


class Worker:
    """One process, one model, one engine."""

    def __init__(self, spec: WorkerSpec, engine: Engine) -> None:
        self.spec = spec
        self.engine = engine
        self.state = State.STARTING
        self.stage = "connecting"
        self.fetching = Fetching(spec.model.model_path)
        self.report = EngineReport(version="", slots=0, max_model_len=0)
        self.started = time.monotonic()
        self.started_unix_s = time.time()
        self.ready_after_s: float | None = None
        self.db = connect(spec.redis_url)
        days = (spec.usage_days, spec.letter_days, spec.trace_days)
        self.queue = JobQueue(self.db, spec.model_id, *days)
        self.cancellations = Cancellations(self.db, spec.model_id)
        self.outbox = Outbox(self.db, self.queue, spec.name)
        self.audience = Audience(self.db, spec.gateway_grace_s)
        self.progress = UseProgress(self.db, spec.model_id)
        self.use_reports = UseReports(self.progress, self.outbox, spec.name)
        self.places = Places(self.queue, engine, self.outbox, spec.name)
        self.consumer = JobConsumer(
            self.queue, engine, self.outbox, self.audience, self.places, spec.name, spec.redis_url
        )
        self.sweeper = Sweeper(self.queue, engine, self.outbox, self.consumer, self.audience)
        self.draining = Draining(
            self.queue, engine, self.outbox, self.places, spec.name, spec.drain_s
        )
        self.watchdog = Watchdog(spec.model.watchdog, engine, self.outbox, spec.model_id)
        self.heartbeat_sender = WorkerHeartbeat(spec.redis_url, self.heartbeat, self.sweeper.lapsed)
        #: Called once the engine is ready and the loop turns.
        self.on_ready: Callable[[], None] = lambda: None
        #: Called when nothing comes from the engine any more.
        self.on_hung: Callable[[], None] = lambda: None
        self.outbox.died.add_done_callback(self._lost_engine)
        self._stopping = asyncio.Event()
        #: No more jobs are to be claimed: the worker is to sleep, or to leave.
        self._pausing = asyncio.Event()
        #: The sleep is over.
        self._roused = asyncio.Event()
        self.engine_was_killed = False

    def stop(self) -> None:
        """Ask the worker to drain for `drain_s` at most, and leave. Safe to call from a signal
        handler of the loop, as are the next three."""
        self.draining.hurried.set()
        self.retire()

    def retire(self) -> None:
        """Ask the worker to drain and leave, until another is started: it gives back what that
        one can go on with, and ends what it cannot."""
        self._stopping.set()
        self._pausing.set()
        self._roused.set()

    def sleep(self) -> None:
        """Ask the worker to drain as for `retire`, and to hand the GPU's memory back, until
        `wake`."""
        if not self._stopping.is_set():
            self._roused.clear()
            self._pausing.set()

    def wake(self) -> None:
        """Ask the worker to take the GPU's memory, and jobs, again."""
        self._roused.set()

    async def run(self) -> None:
        """Serve until stopped; then finish what can be finished and give back the rest. Raises
        `EngineDied`, and whatever the engine raises when it cannot start."""
        await wait_for_server(self.db, timeout_s=30)
        self.heartbeat_sender.start()
        try:
            await self._start_engine()
            await self._serve()
        finally:
            await self.heartbeat_sender.stop()
            await self.engine.stop()
            await self.db.aclose()

    def heartbeat(self) -> Heartbeat:
        """This worker, as it is now."""
        return heartbeat_of(self)

    def _lost_engine(self, died: asyncio.Future[None]) -> None:
        self.engine_was_killed = was_child_killed()
        if not died.cancelled() and isinstance(died.exception(), EngineHung):
            self.on_hung()

    async def _start_engine(self) -> None:
        self.stage = LOADING
        await self.queue.open()
        await self.progress.open()
        await self.cancellations.open()
        self.report = await self.engine.start(self.outbox)
        self.consumer.slots = self.report.slots
        self.consumer.submissions.takes = self.report.takes
        self.consumer.submissions.transcribes = self.report.transcribes
        if self.report.is_local:
            self.stage = _FIRST_ANSWER
            await self.watchdog.first_answer()
        self.ready_after_s = time.monotonic() - self.started
        self.on_ready()
        self.heartbeat_sender.turned()
        self._enter(State.READY)
        log.info("ready after %.1f s: %s", self.ready_after_s, self.report)

    async def _serve(self) -> None:
        loops = [
            asyncio.create_task(loop)
            for loop in (
                self.outbox.run(),
                self._listen_for_cancellations(),
                self.sweeper.run(),
                self._keep_turning(),
                self.use_reports.run(),
            )
        ]
        if self.report.is_local:
            loops.append(asyncio.create_task(self.watchdog.run()))
        claiming = asyncio.create_task(self._claim())
        # Any of these ends only by an error, except claiming, which ends when asked to stop.
        running = [claiming, self.outbox.died, *loops]
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for ended in (each for each in running if each.done()):
                await ended
            self.state = State.STOPPING
            self.heartbeat_sender.beat_now()
            await self.watchdog.rest()
            await self.draining.drain()
        finally:
            self.stop()
            await cancel_and_wait(loops)
            await asyncio.gather(claiming, return_exceptions=True)
            await self.consumer.close()

    async def _claim(self) -> None:
        """Claim jobs, and sleep when told to, until told to leave."""
        while not self._stopping.is_set():
            await self.consumer.claim_until(self._pausing)
            if not self._stopping.is_set() and isinstance(self.engine, SupportsSleep):
                await self._sleep(self.engine)

    async def _sleep(self, engine: SupportsSleep) -> None:
        self._enter(State.STOPPING, "going to sleep")
        await self.watchdog.rest()
        await self.draining.drain()
        if self._stopping.is_set():
            return
        await self._unless_it_dies(engine.sleep())
        self._enter(State.SLEEPING)
        log.info("sleeping")
        await self._roused.wait()
        if self._stopping.is_set():
            return
        # Jobs that could not be given back may still be ours.
        self.consumer.look_again()
        self._pausing.clear()
        self._enter(State.STARTING, "waking")
        began = time.monotonic()
        await self._unless_it_dies(engine.wake())
        self.watchdog.resume()
        self._enter(State.READY)
        log.info("awake after %.1f s", time.monotonic() - began)

    async def _unless_it_dies(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for the engine, which may be waiting for a process of its own that is gone.
        Raises `EngineDied`."""
        working = asyncio.create_task(work)
        await asyncio.wait([working, self.outbox.died], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await cancel_and_wait([working])
            await self.outbox.died
        await working

    def _enter(self, state: State, stage: str = "") -> None:
        self.state, self.stage = state, stage
        self.heartbeat_sender.beat_now()

    async def _listen_for_cancellations(self) -> None:
        while True:
            async with aclosing(connect_reader(self.spec.redis_url)) as reader:
                try:
                    async for job_id in self.cancellations.listen(reader):
                        if job_id:
                            await self.consumer.cancel(job_id)
                        else:
                            self.consumer.look_whose_turn_it_is()
                except RedisError as error:
                    log.warning("listening again in %s s: %s", _RECONNECT_S, error)
            await asyncio.sleep(_RECONNECT_S)

    async def _keep_turning(self) -> None:
        while True:
            self.heartbeat_sender.turned()
            await self.sweeper.drop_lost()
            await asyncio.sleep(0.5)
