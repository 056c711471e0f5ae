"""What becomes of a unit whose process has ended, or cannot be started."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from contract.endings import ENGINE_HUNG
from contract.supervision.problem import Problem
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.diagnosis import Diagnosis
from orchestrator.protocol.life import Action
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.units import former
from orchestrator.supervisor.units.death import diagnose_death
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.marks import kill_adopted
from orchestrator.system.process import Process
from orchestrator.system.reaper import Reaper

log = logging.getLogger(__name__)
#: A process that SIGKILL does not end by then hangs in the kernel; nothing more can be done.
_SWEEP_FOR_S: Final = 10.0


class Exited(NamedTuple):
    """The process of a unit has ended."""

    unit: Unit
    process: Process


class Exits:
    """Of all units of a host, by their slot. `on_lost_worker` is told model and name."""

    def __init__(
        self,
        units: Mapping[str, Unit],
        reaper: Reaper,
        allocator: GpuAllocator,
        on_lost_worker: Callable[[str, str], None],
    ) -> None:
        self._units = units
        self._reaper = reaper
        self._allocator = allocator
        self._on_lost_worker = on_lost_worker

    def exited(self, event: Exited) -> None:
        """Take note of an end, and kill what it left behind."""
        unit, process = event
        if unit.process is process:
            unit.exited_at = time.monotonic()
            unit.exit_code = self._reaper.exit_code(process.pid)
            if not unit.is_survived:
                process.sweep()
            elif unit.is_leaving:
                # It may have died before it told those that it had started.
                former.drain(unit, unit.exited_at)
            if isinstance(unit.spec, ReplicaSpec):
                self._on_lost_worker(unit.spec.model, unit.name)

    def reap(self, unit: Unit, now: float) -> None:
        """Decide what becomes of it, once nothing is left of its process."""
        process = unit.process
        if process is None or unit.exited_at is None:
            return
        left = [] if unit.is_survived else process.sweep() + self._sweep_adopted(unit)
        if left and now < unit.exited_at + _SWEEP_FOR_S:
            return
        if left:
            log.error("%s leaves processes that cannot be killed: %s", unit.slot, left)
        process.close()
        self._settle(unit, process, now)
        self._allocator.ended(unit.slot, returns=unit.is_waiting)

    def _sweep_adopted(self, dead: Unit) -> list[int]:
        """Return what a dead worker left without any mark: all other orphans are with their
        workers."""
        if not isinstance(dead.spec, ReplicaSpec):
            return []
        return kill_adopted({each.process.pid for each in self._units.values() if each.process})

    def _settle(self, unit: Unit, process: Process, now: float) -> None:
        """Decide what becomes of a unit whose process is gone."""
        match unit.ended(now):
            case Action.RETRY:
                self._died(unit, process, now)
            case Action.RENEW:
                unit.want(unit.spec, now)
            case _ if not unit.is_seen_off:
                log.info("%s %s", unit.slot, "was unloaded" if unit.is_parked else "has stopped")
            case _:
                pass

    def _died(self, unit: Unit, process: Process, now: float) -> None:
        diagnosis = diagnose_death(unit, process)
        unit.hangs += unit.exit_code == ENGINE_HUNG
        if unit.ready_at is None:
            self.failed_to_start(unit, diagnosis)
        else:
            wait_s = unit.history.died(now, up_s=now - unit.ready_at, name=unit.name)
            self._retry_or_give_up(unit, diagnosis.problem, wait_s)

    def failed_to_start(self, unit: Unit, diagnosis: Diagnosis) -> None:
        """Its process ended before it was ready, or there never was one."""
        lasts = diagnosis.is_lasting
        wait_s = None if lasts else unit.history.died(time.monotonic(), up_s=None)
        self._retry_or_give_up(unit, diagnosis.problem, wait_s)

    def _retry_or_give_up(self, unit: Unit, problem: Problem, wait_s: float | None) -> None:
        unit.problem = problem
        if wait_s is None:
            unit.fail(problem)
            log.error("%s; it is given up", problem.message)
        else:
            unit.retry(time.monotonic(), wait_s)
            log.warning("%s; again in %.1f s", problem.message, wait_s)
