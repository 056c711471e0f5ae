"""The units of this host: each is moved towards its goal, one step at a time, and brought back when
it died."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from contract.paths import as_called
from contract.supervision.problem import Problem
from orchestrator.errors import UserError
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.diagnosis import Diagnosis
from orchestrator.protocol.life import LIFE, Action, LifeEvent, Phase
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec
from orchestrator.supervisor.lost_workers import LostWorkers
from orchestrator.supervisor.observation import Observation, Survey
from orchestrator.supervisor.units import former
from orchestrator.supervisor.units.clearance import Clearance
from orchestrator.supervisor.units.death import diagnose_no_start
from orchestrator.supervisor.units.exits import Exited, Exits
from orchestrator.supervisor.units.gpu_memory import is_to_be_measured
from orchestrator.supervisor.units.launch import Launcher
from orchestrator.supervisor.units.liveness import take_note
from orchestrator.supervisor.units.record import UnitRecord
from orchestrator.supervisor.units.spawner import Spawner
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.marks import kill_descendants, kill_orphans
from orchestrator.system.reaper import Reaper

log = logging.getLogger(__name__)
_SWEEP_AGAIN_S: Final = 0.05
_SAID: Final = {
    Action.WAKE: "woken",
    Action.SUSPEND: "put to sleep",
    Action.RETIRE: "asked to leave",
    Action.TERMINATE: "asked to stop",
}


class Fleet:
    """All units by their slot. `on_exit` is called from the event loop."""

    def __init__(
        self,
        launcher: Launcher,
        on_exit: Callable[[Exited], None],
        lost_workers: LostWorkers,
        allocator: GpuAllocator,
    ) -> None:
        self.units: dict[str, Unit] = {}
        self.launcher = launcher
        self.allocator = allocator
        self.reaper = Reaper()
        self._clearance = Clearance(self.units, allocator)
        self.exits = Exits(self.units, self.reaper, allocator, lost_workers)
        self._spawner = Spawner(launcher, allocator, self.reaper, on_exit)
        self._reconciled_at = 0.0

    @property
    def workers(self) -> list[tuple[Unit, ReplicaSpec]]:
        """All units that are workers, with what each shall be."""
        return [
            (unit, unit.spec) for unit in self.units.values() if isinstance(unit.spec, ReplicaSpec)
        ]

    @property
    def is_idle(self) -> bool:
        return all(
            each.process is None and not former.is_seen_off(each) for each in self.units.values()
        )

    def want(self, spec: UnitSpec, now: float) -> Unit:
        """See that this runs. A process that runs already stays as it is."""
        unit = self.units.setdefault(spec.slot, Unit(spec))
        is_running = unit.process is not None and unit.is_desired
        if not is_running:
            unit.want(spec, now)
        return unit

    def replace(self, unit: Unit, spec: UnitSpec, now: float) -> None:
        """Let what runs be replaced, and lose nothing. A gateway that serves does it itself."""
        if isinstance(spec, GatewaySpec) and unit.child and unit.phase is Phase.READY:
            unit.spec = spec
            unit.succession.renew(unit.child.gateway_beats, now)
            unit.child.process.replace()
        else:
            unit.replace(spec, now)

    def stop_in_order(self) -> None:
        """None shall run; the gateway stops first, then workers, then Valkey."""
        self._clearance.stops_in_order = True
        for unit in self.units.values():
            unit.unwant()
            if former.is_seen_off(unit):
                former.drain(unit, time.monotonic())

    def hurry(self, units: list[Unit]) -> None:
        """End them at once, whatever they are about. The gateway tells its clients first, and
        needs Valkey for that."""
        now = time.monotonic()
        for unit in units:
            if former.is_seen_off(unit):
                former.hurry(unit, now)
            elif unit.child is None or unit.has_exited:
                continue
            elif isinstance(unit.spec, GatewaySpec) and (unit.child.ready_at or unit.orphans):
                unit.advance(LifeEvent.DUE, now)
                unit.show("ending all answers")
                former.hurry(unit, now)
                unit.child.process.hurry()
            elif not isinstance(unit.spec, ValkeySpec) or unit.is_leaving:
                self._kill(unit, "is stopped at once")

    def take_over(self, records: list[UnitRecord]) -> None:
        """Go on with the units of a supervisor that is gone."""
        now = time.monotonic()
        for record in records:
            unit = self.units.setdefault(record.spec.slot, Unit(record.spec))
            if not self._spawner.adopt(unit, record, now):
                self.exits.missed(unit, record, now)
        self.allocator.adopt([slot for slot, unit in self.units.items() if unit.process])
        self.sweep_orphans()

    def observed(self, seen: Observation) -> None:
        """Take note of signs of life."""
        self._clearance.is_redis_away = not seen.redis_answers
        for unit in self.units.values():
            is_current = unit.process is not None and unit.process.started <= seen.taken_at
            if is_current and not unit.has_exited:
                take_note(unit, seen)
                if seen.redis is not None:
                    # The observer has told the gateways first.
                    unit.succession.announced(seen.taken_at)
                former.relieve_if_succeeded(unit)
        for unit, worker in self.workers:
            if broken := seen.broken.get(worker.model):
                log.warning("%s: jobs were to blame for the end of %s", unit.slot, sorted(broken))
                self.exits.acquit(unit, broken, time.monotonic())

    def surveyed(self, survey: Survey) -> None:
        """Take note of which process belongs to which unit, and of what each holds on the GPUs."""
        families = {
            unit.slot: [entry.pid for entry in unit.process.remember(survey.table)]
            for unit in self.units.values()
            if unit.process is not None and not unit.has_exited
        }
        self.allocator.observed(survey.gpus, families, survey.taken_at)
        for unit, worker in self.workers:
            child = unit.child
            if child is not None and is_to_be_measured(unit):
                child.is_measured = self.allocator.settle(
                    unit.slot,
                    Phase.ASLEEP if unit.is_asleep else Phase.READY,
                    since=child.ready_at or 0.0,
                    version=worker.version,
                    load_s=child.ready_after_s or 0.0,
                )

    def sweep_orphans(self) -> None:
        """Kill what carries the mark of this state directory and belongs to no unit: what a
        supervisor started in the moment in which it was killed itself."""
        orphans = kill_orphans(unit.mark for unit in self.units.values())
        if orphans:
            log.warning("killed processes that nobody had the care of: %s", orphans)

    def sweep_descendants(self) -> None:
        """Kill what the units left behind without any mark, once none of them runs."""
        if self.is_idle and (left := kill_descendants()):
            log.warning("killed processes that had thrown their marks away: %s", left)

    def next_deadline(self) -> float | None:
        """Return when `reconcile` has something to do next."""
        times = [at for unit in self.units.values() for at in self._deadlines(unit)]
        return min(times, default=None)

    def _deadlines(self, unit: Unit) -> list[float]:
        if unit.has_exited or former.is_seen_off(unit):
            return [time.monotonic() + _SWEEP_AGAIN_S]
        if unit.child is not None:
            deadline = unit.patience.deadline
            return [] if deadline is None or unit.child.kill_reason else [deadline]
        # If it was due before, something stands in its way, and an event will say that it is gone.
        is_to_come = unit.is_waiting and unit.restarts.start_at >= self._reconciled_at
        return [unit.restarts.start_at] if is_to_come else []

    def reconcile(self, now: float) -> None:
        """Move each unit towards its goal, as far as it may go now."""
        self._reconciled_at = now
        for unit in self.units.values():
            reason = unit.overdue(now)
            if reason:
                self._kill(unit, reason)
            if unit.has_exited:
                self.exits.reap(unit, now)
            elif former.is_seen_off(unit):
                former.see_off(unit, now)
            else:
                self._pursue(unit, now)

    def _pursue(self, unit: Unit, now: float) -> None:
        event = LifeEvent.REPLACED if self._clearance.may_be_replaced(unit) else LifeEvent.DUE
        action = LIFE[unit.goal, unit.phase, event].action
        if action is Action.NOTHING or not self._clearance.permits(unit, action, now):
            return
        if action in (Action.START, Action.WAKE):
            obstacle = self._clearance.obstacle(unit)
            if obstacle is not None:
                unit.show(obstacle)
                return
        self._do(unit, event, action, now)

    def _do(self, unit: Unit, event: LifeEvent, action: Action, now: float) -> None:
        if unit.process is None:
            self._start(unit)
            return
        unit.advance(event, now)
        log.info("%s is %s", unit.slot, _SAID[action])
        match action:
            case Action.WAKE:
                self.allocator.wakes(unit.slot)
                unit.process.wake()
            case Action.SUSPEND:
                unit.process.sleep()
            case Action.RETIRE:
                unit.process.retire()
            case _:
                if isinstance(unit.spec, GatewaySpec):
                    former.drain(unit, now)
                unit.process.terminate()

    def _start(self, unit: Unit) -> None:
        try:
            self._spawner.spawn(unit)
        except UserError as error:
            problem = Problem(error.message, as_called(error.hint))
            self.exits.failed_to_start(unit, Diagnosis(problem, is_lasting=True))
        except OSError as error:
            self.exits.failed_to_start(unit, diagnose_no_start(unit, error))

    def _kill(self, unit: Unit, reason: str) -> None:
        log.warning("%s %s; it is killed", unit.slot, reason)
        if unit.child is not None:
            unit.child.kill_reason = reason
            unit.child.process.kill()
