"""The record of a unit in the run file, and how the next supervisor goes on with it."""

from __future__ import annotations

import msgspec

from contract.supervision.problem import Problem
from orchestrator.protocol.life import Goal, LifeEvent, Phase
from orchestrator.protocol.specs import UnitSpec
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Identity, Process


class UnitRecord(msgspec.Struct, frozen=True):
    """All that the next supervisor needs to take a unit over."""

    spec: UnitSpec
    goal: Goal
    phase: Phase
    since_unix_s: float
    restarts: int
    name: str
    log_start: int
    identity: Identity | None
    problem: Problem | None = None
    #: When its process started, and when the start or waking began that it is in or has behind
    #: it: monotonic seconds, which all processes of one boot share.
    started_at: float = 0.0
    began_at: float = 0.0
    replacement: UnitSpec | None = None

    @property
    def is_desired(self) -> bool:
        return self.goal is not Goal.STOPPED

    @classmethod
    def of(cls, unit: Unit) -> UnitRecord:
        process = unit.process
        return cls(
            spec=unit.spec,
            goal=unit.goal,
            phase=unit.phase,
            since_unix_s=unit.display.since_unix_s,
            restarts=unit.restarts.count,
            name=unit.name,
            log_start=unit.child.log_start if unit.child else 0,
            identity=process.identity if process else None,
            problem=unit.problem,
            started_at=process.started if process else 0.0,
            began_at=unit.child.began_at if unit.child else 0.0,
            replacement=unit.succession.replacement,
        )

    def restore(self, unit: Unit) -> None:
        """Put a unit where the former supervisor knew it to be."""
        unit.goal, unit.phase = self.goal, self.phase
        unit.restarts.count = self.restarts
        unit.problem = self.problem

    def adopt(self, unit: Unit, process: Process, now: float) -> None:
        """Its process still runs, and goes on as it was."""
        child = Child(process, self.name, self.log_start, self.began_at)
        unit.attach(child)
        unit.lacks_place = None
        if self.replacement is not None:
            unit.replace(self.replacement, now)
        unit.advance(LifeEvent.ADOPTED, now)
        if unit.phase is Phase.READY:
            child.ready_at = now
        else:
            unit.patience.start(unit.spec, now)
        unit.show()
        unit.display.since_unix_s = self.since_unix_s

    def lose(self, unit: Unit, now: float) -> None:
        """Its process is gone, or there was none."""
        unit.spec = self.replacement or self.spec
        unit.advance(LifeEvent.LOST, now)
        if unit.is_waiting:
            unit.want(unit.spec, now)
        elif unit.phase is Phase.PENDING:
            unit.park()
