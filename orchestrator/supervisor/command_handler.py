"""Requests of the commands: start, restart, stop, load, unload and pin."""

from __future__ import annotations

import logging
import signal
import time
from typing import Final

from contract.supervision.control import (
    Finished,
    Load,
    Pin,
    Refused,
    Reload,
    RestartModels,
    StartModel,
    Unload,
)
from orchestrator.errors import UserError
from orchestrator.protocol.control import Follow, Renewal, Request, Restart, Start, Stop
from orchestrator.protocol.life import Phase
from orchestrator.protocol.specs import GATEWAY, VALKEY, ReplicaSpec, UnitSpec
from orchestrator.supervisor.control_server import Connection
from orchestrator.supervisor.gateway_address import where_it_is, with_port
from orchestrator.supervisor.listeners import (
    IsSettled,
    Listeners,
    Waiter,
    is_restarted_or_failed,
    is_started_or_failed,
    is_stopped,
    is_unloaded,
)
from orchestrator.supervisor.models.loader import Loader
from orchestrator.supervisor.observer import Observer
from orchestrator.supervisor.operator_requests import carry_out
from orchestrator.supervisor.reloading import Reloader
from orchestrator.supervisor.restarting import in_full, runs_already, start_in_full
from orchestrator.supervisor.tasks.runner import TaskRunner
from orchestrator.supervisor.units.fleet import Fleet
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.valkey import embedded_url

log = logging.getLogger(__name__)
_WAS_NOT_RUNNING: Final = "was not running"
_IS_TOO_MANY: Final = "has ended: its model has fewer replicas now"
_IS_NO_MORE_ON_DEMAND: Final = "was not loaded, and will not be on demand any more"


class CommandHandler:
    """Carries requests out, and answers each when what it asked for is there."""

    def __init__(
        self,
        fleet: Fleet,
        loader: Loader,
        listeners: Listeners,
        observer: Observer,
        reloader: Reloader,
        tasks: TaskRunner,
    ) -> None:
        self._fleet, self._loader = fleet, loader
        self._listeners, self._observer = listeners, observer
        self._reloader, self._tasks = reloader, tasks
        #: Of this run; None: a Valkey of ew's own.
        self.external_redis: str | None = None
        self.is_stopping = False
        self._stop_askers: list[Connection] = []

    def answer(self, connection: Connection, request: Request) -> None:
        """Do what is asked; what cannot be done is refused."""
        try:
            match request:
                case Start() | StartModel():
                    self._start(connection, start_in_full(request, self._fleet.launcher.variables))
                case Restart() | RestartModels() | Reload():
                    self._renew(connection, request)
                case Stop():
                    self._stop(connection, request)
                case Load() | Unload() | Pin():
                    self._change_residency(connection, request)
                case Follow():
                    self._listeners.follow(
                        connection, self._fleet.units, stop_at_end=request.stop_at_end
                    )
                case _:
                    told = self._fleet.launcher.variables
                    connection.finish(carry_out(request, self._tasks, told))
        except UserError as error:
            connection.finish(Refused(error.message, error.hint, error.field))

    def _change_residency(self, connection: Connection, request: Load | Unload | Pin) -> None:
        match request:
            case Load(model=model):
                units = self._loader.load(model)
                loaded = [unit for unit in units if unit.phase is Phase.READY]
                notes = {unit.slot: "is loaded already" for unit in loaded}
                self._await(connection, units, self._loader.is_load_over, notes)
            case Unload(model=model):
                units = self._loader.unload(model)
                notes = {unit.slot: "is not loaded" for unit in units if not unit.process}
                self._await(connection, units, is_unloaded, notes)
            case Pin(model=model, is_pinned=is_pinned):
                note = self._loader.pin(model, is_pinned=is_pinned)
                self._await(connection, [], is_stopped, {model: note} if note else {})

    def left(self, connection: Connection) -> None:
        """An asker is gone. If everything was to stop with it, it does."""
        if self._listeners.leave(connection):
            log.info("the terminal is gone: stopping everything")
            self.stop_everything(now=False)

    def signalled(self, number: int) -> None:
        """Take the configuration file over (SIGHUP), or stop everything; again, and at once."""
        if number == signal.SIGHUP:
            self._reloader.reload_for_signal(self.external_redis)
        else:
            log.info("%s: stopping everything", signal.Signals(number).name)
            self.stop_everything(now=self.is_stopping)

    def stop_everything(self, *, now: bool) -> None:
        """Stop the gateway, then the workers, then Valkey; `now` does not wait for answers."""
        self.is_stopping = True
        self._tasks.cancel_all()
        self._fleet.stop_in_order()
        if now:
            self._fleet.hurry(list(self._fleet.units.values()))

    def all_is_stopped(self) -> None:
        """Tell the clients that asked for it."""
        for connection in self._stop_askers:
            connection.finish(Finished([]))

    def _start(self, connection: Connection, request: Start) -> None:
        if self.is_stopping:
            raise UserError("ew is just stopping", "try again in a moment")
        if request.unless_running and any(unit.is_desired for unit in self._fleet.units.values()):
            connection.finish(Finished([]))
            return
        self._settle_redis(request)
        specs = self._specs(request)
        known = self._fleet.units
        notes = {each.slot: note for each in specs if (note := runs_already(each, known))}
        now = time.monotonic()
        for each in specs:
            self._fleet.want(each, now)
        self._loader.models.started(request.workers)
        units = [self._fleet.units[each.slot] for each in specs]
        for unit in units:
            if unit.is_parked:
                notes[unit.slot] = "loads at its first request"
        self._await(connection, units, is_started_or_failed, notes)
        self._observer.look_now()
        self._observer.survey_now()

    def _renew(self, connection: Connection, request: Renewal) -> None:
        if isinstance(request, Reload):
            renewed = self._reloader.reload(self.external_redis)
            self._await(connection, renewed, is_restarted_or_failed)
        else:
            self._restart(connection, in_full(request))

    def _restart(self, connection: Connection, request: Restart) -> None:
        if self.is_stopping:
            raise UserError("ew is just stopping", "try again in a moment")
        if request.redis_url != self.external_redis:
            raise UserError(
                "what runs uses another Redis than `redis.url` names now",
                "`./ew stop`, then `./ew start`",
            )
        now = time.monotonic()
        units = [unit for model in request.models for unit in self._replace(model, request, now)]
        self._loader.models.restarted(request.workers)
        gateway = self._fleet.units.get(GATEWAY)
        if request.gateway is not None and gateway is not None and gateway.is_desired:
            self._fleet.replace(gateway, where_it_is(request.gateway, gateway), now)
            units.append(gateway)
        running = {unit.spec.model for unit in units if isinstance(unit.spec, ReplicaSpec)}
        notes = dict.fromkeys(sorted(set(request.models) - running), _WAS_NOT_RUNNING)
        notes |= {unit.slot: _IS_TOO_MANY for unit in units if not unit.is_desired}
        self._await(connection, units, is_restarted_or_failed, notes)
        self._observer.look_now()

    def _replace(self, model: str, request: Restart, now: float) -> list[Unit]:
        """Return the units of a model that runs, which are to be replaced, to start, or to end."""
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
        again when nothing runs and no client waits for it to come up."""
        valkey = self._fleet.units.get(VALKEY)
        is_awaited = valkey is not None and valkey.is_waiting
        if self._fleet.is_idle and not is_awaited:
            self.external_redis = request.redis_url
            self._fleet.launcher.redis_url = request.redis_url or embedded_url()
            if request.redis_url is not None:
                self._fleet.units.pop(VALKEY, None)
        elif request.redis_url != self.external_redis:
            raise UserError(
                "what runs uses another Redis than `redis.url` names now", "`./ew stop` first"
            )
        self._fleet.launcher.variables = request.variables

    def _specs(self, request: Start) -> list[UnitSpec]:
        specs: list[UnitSpec] = [] if request.redis_url else [request.valkey]
        if request.gateway is not None:
            unit, claims = self._fleet.units.get(GATEWAY), self._fleet.launcher.claims
            specs.append(with_port(request.gateway, unit, claims))
        return specs + list(request.workers)

    def _stop(self, connection: Connection, request: Stop) -> None:
        if not request.models:
            self._stop_askers.append(connection)
            self._listeners.follow(connection, self._fleet.units, stop_at_end=False)
            self.stop_everything(now=request.now)
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
