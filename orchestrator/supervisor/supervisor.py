"""The supervisor: the only writer of process state on this host.

Everything that happens is put into one queue and handled in one loop: a child ended, a client
asked for something, something was seen, a deadline passed. After each event the loop compares
what should run with what runs, acts, and publishes what changed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, assert_never

from contract.config import LogsConfig
from contract.messages import State
from contract.paths import logs_dir
from contract.process.tasks import cancel_and_wait
from orchestrator.gpu.account import host_beat
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.control import Request
from orchestrator.protocol.specs import GATEWAY, GatewaySpec, ReplicaSpec
from orchestrator.supervisor.command_handler import CommandHandler
from orchestrator.supervisor.control_server import Connection, ControlServer
from orchestrator.supervisor.listeners import Listeners
from orchestrator.supervisor.log_keeper import LogKeeper
from orchestrator.supervisor.models.loader import Loader
from orchestrator.supervisor.observation import Observation, Subject, Survey
from orchestrator.supervisor.observer import Observer
from orchestrator.supervisor.pace import pace_s
from orchestrator.supervisor.reloading import Reloader
from orchestrator.supervisor.reporting.counts import with_counts
from orchestrator.supervisor.reporting.prospects import with_prospects
from orchestrator.supervisor.reporting.publisher import Publisher
from orchestrator.supervisor.reporting.report import Memory
from orchestrator.supervisor.reporting.run_file import take_run
from orchestrator.supervisor.reporting.run_place import RunPlace
from orchestrator.supervisor.tasks.runner import TaskExited, TaskRunner
from orchestrator.supervisor.units.exits import Exited
from orchestrator.supervisor.units.fleet import Fleet
from orchestrator.supervisor.units.launch import Launcher
from orchestrator.system.mutex import Mutex
from orchestrator.system.process import Identity
from orchestrator.system.valkey import embedded_url, socket_path

log = logging.getLogger(__name__)
_SURVEY_S: Final = 2.0
#: While memory is on its way to or from a worker, others wait for it.
_SURVEY_WHILE_UNSETTLED_S: Final = 0.3
#: A supervisor that is given nothing to do leaves.
_IDLE_FOR_S: Final = 10.0


class Asked(NamedTuple):
    connection: Connection
    request: Request


class Left(NamedTuple):
    """A client that had asked is gone."""

    connection: Connection


class Signalled(NamedTuple):
    number: int


Event: TypeAlias = Exited | TaskExited | Asked | Left | Signalled | Observation | Survey


class Supervisor:
    """Runs until everything was stopped. One per state directory; the caller holds the mutex."""

    def __init__(self, identity: Identity, logs: LogsConfig, mutex: Mutex) -> None:
        self._mutex = mutex
        self._log_keeper = LogKeeper(logs_dir(), logs)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._observer = Observer(self._subject, self._events.put_nowait)
        self._launcher = Launcher(embedded_url(), {})
        self._launcher.log_bytes = logs.max_bytes
        self._allocator = GpuAllocator()
        lost_workers = self._observer.lost_workers
        self._fleet = Fleet(self._launcher, self._events.put_nowait, lost_workers, self._allocator)
        self._loader = Loader(self._fleet, self._allocator)
        self._listeners = Listeners()
        self._publisher = Publisher(identity)
        self._tasks = TaskRunner(self._fleet.reaper, self._events.put_nowait)
        self._reloader = Reloader(self._fleet, self._loader.models, self._log_keeper)
        parts = (self._fleet, self._loader, self._listeners, self._observer)
        self._commands = CommandHandler(*parts, self._reloader, self._tasks)
        self._busy_at = time.monotonic()

    async def run(self, when_open: Callable[[], None] = lambda: None) -> None:
        """Take over what a former supervisor left, then serve until told to stop. `when_open` is
        called as soon as it can be asked."""
        self._listen_for_signals()
        self._take_over()
        server = ControlServer(
            lambda connection, request: self._events.put_nowait(Asked(connection, request)),
            lambda connection: self._events.put_nowait(Left(connection)),
        )
        await server.open()
        when_open()
        place = RunPlace(self._mutex, server, self._fleet.units, self._publisher)
        loops = (self._observer.run(), self._log_keeper.run(), place.keep())
        keeping = [asyncio.create_task(each) for each in loops]
        try:
            await self._handle_events()
        finally:
            server.close()
            await cancel_and_wait(keeping)
        self._leave_nothing()

    async def _handle_events(self) -> None:
        while not self._is_done():
            event = await self._next_event()
            if event is not None:
                self._handle(event)
            self._reloader.reconcile()
            self._loader.shared.is_shared = self._commands.external_redis is not None
            self._loader.reconcile()
            if self._loader.shared.is_in_a_hurry(self._loader.models):
                self._observer.look_now()
            self._fleet.reconcile(time.monotonic())
            self._publish()

    async def _next_event(self) -> Event | None:
        """Return the next event; None when it is time to look after something anyway."""
        now = time.monotonic()
        deadline = self._fleet.next_deadline()
        wait_s = self._publisher.next_at - now
        if deadline is not None:
            wait_s = min(wait_s, deadline - now)
        try:
            async with asyncio.timeout(max(wait_s, 0.0)):
                return await self._events.get()
        except TimeoutError:
            return None

    def _handle(self, event: Event) -> None:
        match event:
            case Exited():
                self._fleet.exits.exited(event)
                self._observer.look_now()
            case TaskExited():
                self._tasks.exited(event)
            case Observation():
                self._publisher.report.saw(event)
                self._fleet.observed(event)
                self._loader.models.observed(event)
                self._loader.shared.observed(
                    event.granted, event.waiting, event.beats.values(), event.taken_at
                )
            case Survey():
                self._publisher.report.survey = event
                self._fleet.surveyed(event)
            case Asked(connection=connection, request=request):
                self._commands.answer(connection, request)
            case Left(connection=connection):
                self._commands.left(connection)
            case Signalled(number=number):
                self._commands.signalled(number)
            case _:
                assert_never(event)

    def _take_over(self) -> None:
        run = take_run()
        self._tasks.give_up_lost()
        if run is None:
            self._fleet.sweep_orphans()
            return
        log.info("taking over from the supervisor with pid %d", run.supervisor.pid)
        self._commands.external_redis = run.redis_url
        self._launcher.redis_url = run.redis_url or embedded_url()
        self._launcher.variables = run.variables
        self._fleet.take_over(run.units)
        self._loader.models.restore(run.pins)
        if run.is_stopping:
            self._commands.stop_everything(now=False)

    def _subject(self) -> Subject | None:
        """The processes that the observer looks at."""
        units = self._fleet.units.values()
        starting = [unit for unit in units if unit.state is State.STARTING]
        self._observer.pace_s = pace_s(starting, time.monotonic())
        is_unsettled = bool(starting) or self._allocator.is_unsettled
        self._observer.survey_pace_s = _SURVEY_WHILE_UNSETTLED_S if is_unsettled else _SURVEY_S
        gateway = self._fleet.units.get(GATEWAY)
        spec = gateway.spec if gateway is not None else None
        models = {each.spec.model for each in units if isinstance(each.spec, ReplicaSpec)}
        if not units:
            return None
        beat = with_prospects(host_beat(self._allocator.accounts()), units)
        return Subject(
            self._launcher.redis_url,
            frozenset(models),
            spec if isinstance(spec, GatewaySpec) else None,
            self._loader.models.registrations() if not self._commands.is_stopping else {},
            with_counts(beat, self._loader.models, units),
            self._loader.shared.is_shared,
            self._loader.shared.asks_for(self._loader.models, time.monotonic()),
        )

    def _publish(self) -> None:
        """Publish what has changed: to listeners, the run file, the status file."""
        units = self._fleet.units
        if self._is_busy():
            self._busy_at = time.monotonic()
        self._publisher.publish(
            units,
            redis_url=self._commands.external_redis,
            variables=self._launcher.variables,
            is_stopping=self._commands.is_stopping,
            has_changed=self._listeners.tell(units),
            pins=self._loader.models.pins,
            memory=Memory(
                self._allocator.accounts(), self._allocator.problem, self._loader.models.pinned()
            ),
        )
        self._listeners.release(units)

    def _is_busy(self) -> bool:
        return bool(self._fleet.units) or not self._listeners.is_empty

    def _is_done(self) -> bool:
        if self._commands.is_stopping:
            return self._fleet.is_idle
        return not self._is_busy() and time.monotonic() - self._busy_at > _IDLE_FOR_S

    def _leave_nothing(self) -> None:
        self._fleet.sweep_orphans()
        self._fleet.sweep_descendants()
        self._fleet.reaper.collect()
        self._tasks.end()
        socket_path().unlink(missing_ok=True)
        self._publisher.withdraw()
        self._commands.all_is_stopped()
        log.info("everything is stopped")

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._events.put_nowait, Signalled(number))
        loop.add_signal_handler(signal.SIGCHLD, self._fleet.reaper.collect)
