"""Exits of processes: sweep up, diagnose, and start the unit again or give it up."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from contract.endings import ENGINE_HUNG, EndedBy
from contract.supervision.problem import Problem
from orchestrator.gpu.account import gpus_at_end
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.diagnosis import Diagnosis
from orchestrator.protocol.life import Action, Goal, LifeEvent, Phase
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.lost_workers import LostWorkers
from orchestrator.supervisor.units import former
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.death import (
    diagnose_death,
    end_of,
    ended_by,
    missed_end,
    told_end,
)
from orchestrator.supervisor.units.record import UnitRecord
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.marks import kill_adopted
from orchestrator.system.process import Process, sweep_mark
from orchestrator.system.reaper import Reaper

log = logging.getLogger(__name__)
#: A process that SIGKILL does not end by then hangs in the kernel; nothing more can be done.
_SWEEP_FOR_S: Final = 10.0


class Exited(NamedTuple):
    """The process of a unit has ended."""

    unit: Unit
    process: Process


class Exits:
    """Of all units of a host, by their slot."""

    def __init__(
        self,
        units: Mapping[str, Unit],
        reaper: Reaper,
        allocator: GpuAllocator,
        lost_workers: LostWorkers,
    ) -> None:
        self._units = units
        self._reaper = reaper
        self._allocator = allocator
        self._lost_workers = lost_workers

    def exited(self, event: Exited) -> None:
        """Take note of an end, and kill what it left behind."""
        unit, process = event
        child = unit.child
        if child is not None and child.process is process:
            child.exited_at = time.monotonic()
            child.exit_code = self._reaper.exit_code(process.pid)
            if not former.is_survived(unit):
                process.sweep()
            elif unit.is_leaving:
                # It may have died before it told those that it had started.
                former.drain(unit, child.exited_at)
            if isinstance(unit.spec, ReplicaSpec):
                child.gpus_at_end = gpus_at_end(self._allocator.accounts(), unit.slot)
                child.ended_by = ended_by(child)
                self._lost_workers.end_lease(unit.spec.model, child.name, child.ended_by)

    def missed(self, unit: Unit, record: UnitRecord, now: float) -> None:
        """Take note that a process of a former supervisor has ended, if there was one."""
        if record.identity is not None:
            if former.is_survived(unit):
                unit.orphans = record.identity.mark
            else:
                sweep_mark(record.identity)
            if isinstance(unit.spec, ReplicaSpec):
                self._lost_workers.end_lease(unit.spec.model, record.name, EndedBy.OUTSIDE)
                self._lost_workers.note(unit.spec, missed_end(record.name, unit.spec.engine))
        record.lose(unit, now)

    def reap(self, unit: Unit, now: float) -> None:
        """Decide what becomes of it, once nothing is left of its process."""
        dead = unit.child
        if dead is None or dead.exited_at is None:
            return
        left = [] if former.is_survived(unit) else dead.process.sweep() + self._sweep_adopted(unit)
        if left and now < dead.exited_at + _SWEEP_FOR_S:
            return
        if left:
            log.error("%s leaves processes that cannot be killed: %s", unit.slot, left)
        dead.process.close()
        self._settle(unit, dead, now)
        self._allocator.ended(unit.slot, returns=unit.is_waiting)

    def _sweep_adopted(self, unit: Unit) -> list[int]:
        """Kill what a dead worker left without any mark: all other orphans are with their
        workers. Returns the pids."""
        if not isinstance(unit.spec, ReplicaSpec):
            return []
        return kill_adopted({each.process.pid for each in self._units.values() if each.process})

    def _settle(self, unit: Unit, dead: Child, now: float) -> None:
        """Decide what becomes of a unit whose process is gone."""
        orphans = unit.mark if former.is_survived(unit) else ""
        action = unit.ended(now, orphans)
        if isinstance(unit.spec, ReplicaSpec) and action is not Action.RETRY:
            end = "was unloaded" if unit.is_parked else "was stopped"
            self._lost_workers.note(unit.spec, told_end(dead, unit.spec.engine, end))
        match action:
            case Action.RETRY:
                self._died(unit, dead, now)
            case Action.RENEW:
                unit.want(unit.spec, now)
            case _ if not former.is_seen_off(unit):
                log.info("%s %s", unit.slot, "was unloaded" if unit.is_parked else "has stopped")
            case _:
                pass

    def _died(self, unit: Unit, dead: Child, now: float) -> None:
        diagnosis = diagnose_death(unit, dead)
        if isinstance(unit.spec, ReplicaSpec):
            self._lost_workers.note(unit.spec, end_of(dead, unit.spec.engine, diagnosis))
        unit.restarts.hangs += dead.exit_code == ENGINE_HUNG
        if dead.ready_at is None:
            self.failed_to_start(unit, diagnosis)
        else:
            up_s = now - dead.ready_at
            wait_s = unit.restarts.died(now, up_s=up_s, name=dead.name, ended_by=dead.ended_by)
            self._retry_or_give_up(unit, diagnosis.problem, wait_s)

    def failed_to_start(self, unit: Unit, diagnosis: Diagnosis) -> None:
        """Its process ended before it was ready, or there never was one."""
        lasts = diagnosis.is_lasting
        wait_s = None if lasts else unit.restarts.died(time.monotonic(), up_s=None)
        self._retry_or_give_up(unit, diagnosis.problem, wait_s)

    def acquit(self, unit: Unit, names: Collection[str], now: float) -> None:
        """A job, which has ended as poison, was to blame for the deaths of workers with these
        names. If the unit was given up because of them, it shall run again."""
        is_given_up = unit.phase is Phase.FAILED and unit.goal is Goal.RUN
        if unit.restarts.forgive(names) and is_given_up:
            unit.advance(LifeEvent.ASKED, now)
            unit.retry(now, 0.0)

    def _retry_or_give_up(self, unit: Unit, problem: Problem, wait_s: float | None) -> None:
        unit.problem = problem
        if wait_s is None:
            unit.fail(problem)
            log.error("%s; it is given up", problem.message)
        else:
            unit.retry(time.monotonic(), wait_s)
            log.warning("%s; again in %.1f s", problem.message, wait_s)
