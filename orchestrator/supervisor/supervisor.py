"""The supervisor: the only writer of process state on this host.

Everything that happens is put into one queue and handled in one loop: a child ended, somebody
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

import msgspec

from contract.messages import State
from contract.paths import logs_dir
from contract.ports import free_port
from contract.tasks import cancel_and_wait
from orchestrator.errors import UserError
from orchestrator.gpu.account import host_beat
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.control import (
    Finished,
    Follow,
    Load,
    Pin,
    Refused,
    Request,
    Restart,
    Start,
    Stop,
    Unload,
)
from orchestrator.protocol.specs import (
    GATEWAY,
    VALKEY,
    GatewaySpec,
    ReplicaSpec,
    UnitSpec,
)
from orchestrator.supervisor.control_server import Connection, ControlServer
from orchestrator.supervisor.listeners import (
    IsSettled,
    Listeners,
    Waiter,
    is_restarted_or_failed,
    is_started_or_failed,
    is_stopped,
    is_unloaded,
)
from orchestrator.supervisor.loader import Loader
from orchestrator.supervisor.log_keeper import keep_small
from orchestrator.supervisor.observer import Observation, Observer, Subject, Survey
from orchestrator.supervisor.reporting.prospects import with_prospects
from orchestrator.supervisor.reporting.publisher import Publisher
from orchestrator.supervisor.reporting.report import Memory
from orchestrator.supervisor.reporting.run_file import read_run
from orchestrator.supervisor.units.fleet import Exited, Fleet
from orchestrator.supervisor.units.launch import Launcher
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.ports import require_free
from orchestrator.system.process import Identity
from orchestrator.system.valkey import embedded_url, socket_path

log = logging.getLogger(__name__)
_PACE_S: Final = 1.0
#: While something starts, people wait for it.
_PACE_WHILE_STARTING_S: Final = 0.2
_SURVEY_S: Final = 2.0
#: While memory is on its way to or from a worker, others wait for it.
_SURVEY_WHILE_UNSETTLED_S: Final = 0.3
#: A supervisor that nobody gives anything to do leaves.
_IDLE_FOR_S: Final = 10.0
_WAS_NOT_RUNNING: Final = "was not running"
_IS_TOO_MANY: Final = "has ended: its model has fewer replicas now"
_IS_NO_MORE_ON_DEMAND: Final = "was not loaded, and will not be on demand any more"


class Asked(NamedTuple):
    connection: Connection
    request: Request


class Left(NamedTuple):
    """Somebody who had asked is gone."""

    connection: Connection


class Signalled(NamedTuple):
    number: int


Event: TypeAlias = Exited | Asked | Left | Signalled | Observation | Survey


class Supervisor:
    """Runs until everything was stopped. One per state directory; the caller holds the lock."""

    def __init__(self, identity: Identity) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._observer = Observer(self._subject, self._events.put_nowait)
        self._launcher = Launcher(embedded_url(), {})
        self._allocator = GpuAllocator()
        self._fleet = Fleet(
            self._launcher, self._events.put_nowait, self._observer.forget_worker, self._allocator
        )
        self._loader = Loader(self._fleet, self._allocator)
        self._listeners = Listeners()
        self._publisher = Publisher(identity)
        self._external_redis: str | None = None
        self._is_stopping = False
        self._stop_askers: list[Connection] = []
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
        observing = asyncio.create_task(self._observer.run())
        rotating = asyncio.create_task(keep_small(logs_dir()))
        try:
            await self._handle_events()
        finally:
            server.close()
            await cancel_and_wait([observing, rotating])
        self._leave_nothing()

    async def _handle_events(self) -> None:
        while not self._is_done():
            event = await self._next_event()
            if event is not None:
                self._handle(event)
            self._loader.reconcile()
            self._fleet.reconcile(time.monotonic())
            self._publish()

    async def _next_event(self) -> Event | None:
        """The next event; None when it is time to look after something anyway."""
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
                self._fleet.exited(event)
                self._observer.look_now()
            case Observation():
                self._publisher.report.saw(event)
                self._fleet.observed(event)
                self._loader.observed(event)
            case Survey():
                self._publisher.report.survey = event
                self._fleet.surveyed(event)
            case Asked(connection=connection, request=request):
                self._answer(connection, request)
            case Left(connection=connection):
                self._left(connection)
            case Signalled(number=number):
                log.info("%s: stopping everything", signal.Signals(number).name)
                self._stop_everything(now=self._is_stopping)
            case _:
                assert_never(event)

    def _answer(self, connection: Connection, request: Request) -> None:
        try:
            match request:
                case Start():
                    self._start(connection, request)
                case Restart():
                    self._restart(connection, request)
                case Stop():
                    self._stop(connection, request)
                case Load() | Unload() | Pin():
                    self._change_residency(connection, request)
                case Follow():
                    self._listeners.follow(
                        connection, self._fleet.units, stop_at_end=request.stop_at_end
                    )
        except UserError as error:
            connection.finish(Refused(error.message, error.hint))

    def _change_residency(self, connection: Connection, request: Load | Unload | Pin) -> None:
        match request:
            case Load(model=model):
                units = self._loader.load(model)
                loaded = [unit for unit in units if unit.state is State.READY]
                notes = {unit.slot: "is loaded already" for unit in loaded}
                self._await(connection, units, self._loader.is_load_over, notes)
            case Unload(model=model):
                units = self._loader.unload(model)
                notes = {unit.slot: "is not loaded" for unit in units if not unit.process}
                self._await(connection, units, is_unloaded, notes)
            case Pin(model=model, is_pinned=is_pinned):
                note = self._loader.pin(model, is_pinned=is_pinned)
                self._await(connection, [], is_stopped, {model: note} if note else {})

    def _left(self, connection: Connection) -> None:
        if self._listeners.leave(connection):
            log.info("the terminal is gone: stopping everything")
            self._stop_everything(now=False)

    def _start(self, connection: Connection, request: Start) -> None:
        if self._is_stopping:
            raise UserError("ew is just stopping", "try again in a moment")
        if request.unless_running and any(unit.is_desired for unit in self._fleet.units.values()):
            connection.finish(Finished([]))
            return
        self._settle_redis(request)
        specs = self._specs(request)
        notes = {each.slot: note for each in specs if (note := self._note(each))}
        now = time.monotonic()
        for each in specs:
            self._fleet.want(each, now)
        self._loader.started(request.workers)
        units = [self._fleet.units[each.slot] for each in specs]
        for unit in units:
            if unit.is_parked:
                notes[unit.slot] = "loads at its first request"
        self._await(connection, units, is_started_or_failed, notes)
        self._observer.look_now()
        self._observer.survey_now()

    def _restart(self, connection: Connection, request: Restart) -> None:
        if self._is_stopping:
            raise UserError("ew is just stopping", "try again in a moment")
        if request.redis_url != self._external_redis:
            raise UserError(
                "what runs uses another Redis than `redis.url` names now",
                "`./ew stop`, then `./ew start`",
            )
        now = time.monotonic()
        units = [unit for model in request.models for unit in self._replace(model, request, now)]
        self._loader.restarted(request.workers)
        gateway = self._fleet.units.get(GATEWAY)
        if request.gateway is not None and gateway is not None and gateway.is_desired:
            self._fleet.replace(gateway, _where_it_is(request.gateway, gateway), now)
            units.append(gateway)
        running = {unit.spec.model for unit in units if isinstance(unit.spec, ReplicaSpec)}
        notes = dict.fromkeys(sorted(set(request.models) - running), _WAS_NOT_RUNNING)
        notes |= {unit.slot: _IS_TOO_MANY for unit in units if not unit.is_desired}
        self._await(connection, units, is_restarted_or_failed, notes)
        self._observer.look_now()

    def _replace(self, model: str, request: Restart, now: float) -> list[Unit]:
        """The units of a model that runs, which are to be replaced, to start, or to end."""
        specs = {each.slot: each for each in request.workers if each.model == model}
        units = [
            unit
            for unit, worker in self._fleet.workers
            if worker.model == model and unit.is_desired
        ]
        for unit in units:
            if unit.slot in specs:
                self._fleet.replace(unit, specs.pop(unit.slot), now)
            else:
                unit.unwant()
        return units + [self._fleet.want(each, now) for each in specs.values() if units]

    def _await(
        self,
        connection: Connection,
        units: list[Unit],
        is_settled: IsSettled,
        notes: dict[str, str] | None = None,
    ) -> None:
        """Answer when all of these units are settled."""
        waiter = Waiter(connection, [unit.slot for unit in units], is_settled, notes or {})
        self._listeners.wait(waiter, self._fleet.units)

    def _settle_redis(self, request: Start) -> None:
        """All processes of a run share one Redis; it is settled when the first starts, and open
        again when nothing runs and nobody waits for it to come up."""
        valkey = self._fleet.units.get(VALKEY)
        is_awaited = valkey is not None and valkey.is_waiting
        if self._fleet.is_idle and not is_awaited:
            self._external_redis = request.redis_url
            self._launcher.redis_url = request.redis_url or embedded_url()
            if request.redis_url is not None:
                self._fleet.units.pop(VALKEY, None)
        elif request.redis_url != self._external_redis:
            raise UserError(
                "what runs uses another Redis than `redis.url` names now", "`./ew stop` first"
            )
        self._launcher.variables = request.variables

    def _specs(self, request: Start) -> list[UnitSpec]:
        specs: list[UnitSpec] = [] if request.redis_url else [request.valkey]
        if request.gateway is not None:
            specs.append(self._with_port(request.gateway))
        return specs + list(request.workers)

    def _with_port(self, gateway: GatewaySpec) -> GatewaySpec:
        """Raises `UserError` if the port is taken by somebody else."""
        unit = self._fleet.units.get(GATEWAY)
        if unit is not None and unit.process and isinstance(unit.spec, GatewaySpec):
            return msgspec.structs.replace(gateway, port=gateway.port or unit.spec.port)
        if gateway.port != 0:
            require_free(gateway.host, gateway.port)
            return gateway
        try:
            return msgspec.structs.replace(gateway, port=free_port(gateway.host))
        except OSError as error:
            message = f"cannot listen on {gateway.host}: {error.strerror}"
            raise UserError(message, "check `gateway.host`") from None

    def _note(self, spec: UnitSpec) -> str:
        """Why nothing has to be done for it; empty if something has."""
        unit = self._fleet.units.get(spec.slot)
        if unit is None or unit.process is None or not unit.is_desired:
            return ""
        name = spec.model if isinstance(spec, ReplicaSpec) else spec.slot
        if _settings(unit.spec) != _settings(spec):
            return f"runs already, with its former settings (`./ew restart {name}` changes them)"
        return "runs already" if unit.state is State.READY else ""

    def _stop(self, connection: Connection, request: Stop) -> None:
        if not request.models:
            self._stop_askers.append(connection)
            self._listeners.follow(connection, self._fleet.units, stop_at_end=False)
            self._stop_everything(now=request.now)
            return
        models = {unit: worker.model for unit, worker in self._fleet.workers}
        units = [unit for unit, model in models.items() if model in request.models]
        absent = set(request.models) - set(models.values())
        notes = dict.fromkeys(sorted(absent), _WAS_NOT_RUNNING)
        for unit in units:
            if unit.process is None:
                notes[unit.slot] = _IS_NO_MORE_ON_DEMAND if unit.is_parked else _WAS_NOT_RUNNING
            unit.unwant()
        if request.now:
            self._fleet.hurry(units)
        self._await(connection, units, is_stopped, notes)

    def _stop_everything(self, *, now: bool) -> None:
        self._is_stopping = True
        self._fleet.stop_in_order()
        if now:
            self._fleet.hurry(list(self._fleet.units.values()))

    def _take_over(self) -> None:
        run = read_run()
        if run is None:
            self._fleet.sweep_orphans()
            return
        log.info("taking over from the supervisor with pid %d", run.supervisor.pid)
        self._external_redis = run.redis_url
        self._launcher.redis_url = run.redis_url or embedded_url()
        self._launcher.variables = run.variables
        self._fleet.take_over(run.units)
        self._loader.restore(run.pins)
        if run.is_stopping:
            self._stop_everything(now=False)

    def _subject(self) -> Subject | None:
        """Whom the observer looks at."""
        units = self._fleet.units.values()
        is_starting = any(unit.state is State.STARTING for unit in units)
        self._observer.pace_s = _PACE_WHILE_STARTING_S if is_starting else _PACE_S
        is_unsettled = is_starting or self._allocator.is_unsettled
        self._observer.survey_pace_s = _SURVEY_WHILE_UNSETTLED_S if is_unsettled else _SURVEY_S
        gateway = self._fleet.units.get(GATEWAY)
        address = None
        if gateway is not None and isinstance(gateway.spec, GatewaySpec):
            address = (gateway.spec.host, gateway.spec.port)
        models = {each.spec.model for each in units if isinstance(each.spec, ReplicaSpec)}
        if not units:
            return None
        return Subject(
            self._launcher.redis_url,
            frozenset(models),
            address,
            self._loader.registrations() if not self._is_stopping else {},
            with_prospects(host_beat(self._allocator.accounts()), units),
        )

    def _publish(self) -> None:
        """Tell everybody what has changed: listeners, the run file, the status file."""
        units = self._fleet.units
        if self._is_busy():
            self._busy_at = time.monotonic()
        self._publisher.publish(
            units,
            redis_url=self._external_redis,
            variables=self._launcher.variables,
            is_stopping=self._is_stopping,
            has_changed=self._listeners.tell(units),
            pins=self._loader.pins,
            memory=Memory(
                self._allocator.accounts(), self._allocator.problem, self._loader.pinned()
            ),
        )
        self._listeners.release(units)

    def _is_busy(self) -> bool:
        return bool(self._fleet.units) or not self._listeners.is_empty

    def _is_done(self) -> bool:
        if self._is_stopping:
            return self._fleet.is_idle
        return not self._is_busy() and time.monotonic() - self._busy_at > _IDLE_FOR_S

    def _leave_nothing(self) -> None:
        self._fleet.sweep_orphans()
        self._fleet.sweep_descendants()
        self._fleet.reaper.collect()
        socket_path().unlink(missing_ok=True)
        self._publisher.withdraw()
        for connection in self._stop_askers:
            connection.finish(Finished([]))
        log.info("everything is stopped")

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._events.put_nowait, Signalled(number))
        loop.add_signal_handler(signal.SIGHUP, log.info, "a terminal is gone; going on")
        loop.add_signal_handler(signal.SIGCHLD, self._fleet.reaper.collect)


def _settings(spec: UnitSpec) -> UnitSpec:
    """What matters to the process: of the whole configuration, the gateway's section."""
    if not isinstance(spec, GatewaySpec):
        return spec
    section = spec.config.get("gateway", {})
    return msgspec.structs.replace(spec, config={"gateway": section})


def _where_it_is(gateway: GatewaySpec, unit: Unit) -> GatewaySpec:
    """A gateway whose processes are replaced listens where it did."""
    if not isinstance(unit.spec, GatewaySpec):
        return gateway
    return msgspec.structs.replace(gateway, host=unit.spec.host, port=unit.spec.port)
