"""Which models are loaded: those that always shall be, and the others while they are asked for.

The loader finds places on the GPUs for workers that shall start, and parks and unparks the models
that are loaded on demand. `orchestrator.gpu.eviction` decides who goes for whom; the fleet
starts and stops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from contract.supervision.problem import Problem
from orchestrator.errors import UserError
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.gpu.decisions import CannotLoad, Decision, LoadNow, MakeRoom, Wait, Wish
from orchestrator.gpu.eviction import Policy, decide, idle_too_long
from orchestrator.gpu.placement import place
from orchestrator.protocol.life import Phase
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.listeners import is_loaded_or_failed
from orchestrator.supervisor.models.model import Model
from orchestrator.supervisor.models.registry import ModelRegistry
from orchestrator.supervisor.models.residents import residents
from orchestrator.supervisor.models.shared_loads import SharedLoads
from orchestrator.supervisor.units.fleet import Fleet
from orchestrator.supervisor.units.gpu_memory import is_falling_asleep
from orchestrator.supervisor.units.unit import NO_PLACE, Unit
from orchestrator.system.host_memory import host_memory
from orchestrator.terminal.sizes import show

log = logging.getLogger(__name__)
#: Of the host's memory, what models that sleep leave free.
_HOST_SPARE: Final = 0.1
#: A model that could not be loaded may be asked for again after this long.
_TRY_AGAIN_S: Final = 30.0
_SLEEPING: Final = frozenset({Phase.SUSPENDING, Phase.ASLEEP})


class Loader:
    """`reconcile` is to be called whenever something has been seen or asked."""

    def __init__(self, fleet: Fleet, allocator: GpuAllocator, policy: Policy | None = None) -> None:
        self._fleet = fleet
        self._allocator = allocator
        self._policy = policy or Policy()
        self.models = ModelRegistry(fleet)
        self.shared = SharedLoads()

    def load(self, model_id: str) -> list[Unit]:
        """Load a model as if it were asked for. Raises `UserError`."""
        model = self.models.on_demand(model_id)
        if not model.is_ready:
            model.park_failed()
            model.want(time.monotonic()).is_operators = True
            self._wait(model, "asked for")
            if model.is_leaving:
                # A worker that sleeps, or is about to, needs room to wake.
                falling = {unit.slot for unit in model.units if unit.phase in _SLEEPING}
                model.unpark(besides=self._allocator.asleep() | falling)
        model.use.last_used = time.monotonic()
        return model.units

    def is_load_over(self, unit: Unit, units: Mapping[str, Unit]) -> bool:
        """Return whether a load has come to its end: its worker is there, will not come, or
        nothing waits for it any more."""
        is_resting = unit.is_parked and unit.process is None
        is_asked_for = any(each.is_asked_for and unit in each.units for each in self.models)
        return is_loaded_or_failed(unit, units) or (is_resting and not is_asked_for)

    def unload(self, model_id: str) -> list[Unit]:
        """Unload a model, until it is asked for again; one that sleeps leaves altogether. Raises
        `UserError`."""
        model = self.models.on_demand(model_id)
        self._unload(model, "operator")
        return model.units

    def pin(self, model_id: str, *, is_pinned: bool) -> str:
        """Never unload a model for another, or do so again. Return why nothing had to be done;
        empty if something had. Raises `UserError`."""
        model = self.models.on_demand(model_id)
        was_pinned, model.pin = model.is_pinned, is_pinned
        if was_pinned is not is_pinned:
            return ""
        return "is pinned already" if is_pinned else "is not pinned"

    def reconcile(self) -> None:
        """Find places, and let models come and go."""
        self.models.update()
        if not self._allocator.has_looked:
            return
        now = time.monotonic()
        self._forget_failures(now)
        self._give_places_back()
        self._unload_idle(now)
        self._place_the_waiting()
        self._decide(now)

    def _forget_failures(self, now: float) -> None:
        """Let a model that failed a while ago be asked for again."""
        for model in self.models:
            if model.is_on_demand and model.is_desired and model.problem:
                since = max(unit.display.since for unit in model.units)
                if now - since >= _TRY_AGAIN_S:
                    model.park_failed()

    def _give_places_back(self) -> None:
        """Give back each place whose worker neither runs nor waits for it, and each that is
        lost."""
        units = self._fleet.units
        for reservation in self._allocator.reservations:
            unit = units.get(reservation.slot)
            is_used = unit is not None and (unit.process is not None or unit.is_waiting)
            if not is_used and reservation.phase is not Phase.RELEASING:
                self._allocator.ended(reservation.slot, returns=False)
        for slot in self._allocator.lost_places():
            unit = units.get(slot)
            if unit is None or unit.process is None:
                self._allocator.ended(slot, returns=False)
            else:
                self._allocator.cancel_wake(slot)
                unit.park(asleep=True)

    def _unload_idle(self, now: float) -> None:
        for model_id in idle_too_long(residents(self.models, self._allocator.reservations), now):
            log.info("%s was not asked for in a while", model_id)
            self._unload(self.models[model_id], "idle")

    def _unload(self, model: Model, reason: str) -> None:
        """Have a model go: to sleep if it can and the host has memory for its weights, else for
        good."""
        fits = model.can_sleep and self._fits_the_host(model)
        model.unload(reason, asleep=fits)

    def _fits_the_host(self, model: Model) -> bool:
        """Return whether the host has memory for a model's weights, beside those of models that are
        just falling asleep."""
        falling = [unit.slot for unit, _ in self._fleet.workers if is_falling_asleep(unit)]
        kept_bytes = self._allocator.bytes_beside_cache([unit.slot for unit in model.units])
        promised_bytes = self._allocator.bytes_beside_cache(falling)
        memory = host_memory()
        left_bytes = memory.available - promised_bytes - kept_bytes
        if left_bytes >= memory.total * _HOST_SPARE:
            return True
        log.info("%s cannot sleep: the host lacks %s", model.id, show(kept_bytes))
        return False

    def _place_the_waiting(self) -> None:
        """Reserve places, all at once, for workers that shall start and need no room made."""
        waiting = {unit.slot: unit for unit, _ in self._fleet.workers if unit.is_waiting}
        workers = [worker for unit, worker in self._fleet.workers if unit.slot in waiting]
        refused = self._allocator.reserve(workers, self._parked())
        for slot, unit in waiting.items():
            if slot not in refused:
                unit.lacks_place = None
            elif unit.lacks_place is None:
                unit.lacks_place = NO_PLACE

    def _parked(self, besides: str = "") -> list[ReplicaSpec]:
        """Return the workers that may be loaded later."""
        models = (each for each in self.models if each.is_parked and each.id != besides)
        return [worker for model in models for worker in model.workers]

    def _decide(self, now: float) -> None:
        wishes = [wish for model in self.models if (wish := self._wish(model, now))]
        if not wishes:
            return
        present = residents(self.models, self._allocator.reservations)
        for decision in decide(wishes, present, self._allocator.devices, now, self._policy):
            self._act(self.models[decision.model], decision)

    def _wish(self, model: Model, now: float) -> Wish | None:
        """Return what a model needs that is waited for and has no place."""
        if model.is_leaving or not model.is_desired:
            return None
        has_no_place = any(unit.is_waiting and unit.lacks_place is not None for unit in model.units)
        if not has_no_place and not model.is_waited_for:
            return None
        try:
            demands = self._allocator.demands(model.workers)
        except UserError as error:
            self._give_up(model, Problem(error.message, error.hint))
            return None
        fits = not place(demands, self._allocator.devices).refusals
        request = model.want(now)
        if not has_no_place and self.shared.leaves(model, request, fits=fits):
            self._wait(model, "the host that is to load it")
            return None
        if model.is_loaded:
            # Some of its workers serve: for the others it takes what is free, and no more.
            if fits:
                self._load(model)
            return None
        if not demands:
            self._load(model)
            return None
        return Wish(model.id, demands, request.since)

    def _act(self, model: Model, decision: Decision) -> None:
        match decision:
            case LoadNow() if not model.is_leaving:
                self._load(model)
            case MakeRoom(unloaded=unloaded, drained=drained):
                names = ", ".join(f"`{name}`" for name in (*unloaded, *drained))
                log.info("%s is unloaded for `%s`", names, model.id)
                self._wait(model, f"{names} makes room")
                for name in (*unloaded, *drained):
                    self._unload(self.models[name], "eviction")
            case Wait(reason=reason):
                self._wait(model, reason)
            case CannotLoad(refusals=refusals):
                error = refusals[0].error()
                self._give_up(model, Problem(error.message, error.hint))

    def _load(self, model: Model) -> None:
        """Load a model that there is room for; should it be gone, wait on."""
        refused = self._allocator.reserve(model.workers, self._parked(besides=model.id))
        if refused:
            self._wait(model, "a place")
            return
        if model.request is not None:
            model.request.waits_for = ""
        times = model.times
        times.load_s = self._allocator.load_s(model.workers[0]) or times.load_s
        now = time.monotonic()
        for unit in model.units:
            unit.lacks_place = None
            self._allocator.wake(unit.slot)
            unit.unpark(now)

    def _wait(self, model: Model, reason: str) -> None:
        if model.request is not None:
            model.request.waits_for = reason
        for unit in model.units:
            unit.wait_for(reason)

    def _give_up(self, model: Model, problem: Problem) -> None:
        log.error("%s", problem.message)
        model.request = None
        for unit in model.units:
            if unit.process is None or unit.is_asleep:
                unit.fail(problem)
