"""A supervised process: the goal set for it, and the phase it is in."""

from __future__ import annotations

import time
from typing import Final

from contract.messages import Heartbeat, State
from contract.supervision.problem import Problem
from orchestrator.protocol.life import (
    LEAVING,
    LIFE,
    SLEEPING,
    Action,
    Goal,
    LifeEvent,
    Phase,
    shown,
)
from orchestrator.protocol.specs import UnitSpec
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.display import Display, stage_on_entry
from orchestrator.supervisor.units.patience import Patience
from orchestrator.supervisor.units.restarts import Restarts
from orchestrator.supervisor.units.succession import Succession
from orchestrator.system.process import Process

NO_PLACE: Final = "waiting for a place"


class Unit:
    """A `goal`, a `phase` that events move (`advance`), and the process that there is, if any.
    Times are monotonic seconds."""

    def __init__(self, spec: UnitSpec) -> None:
        self.spec = spec
        self.goal = Goal.STOPPED
        self.phase = Phase.PENDING
        self.child: Child | None = None
        #: The name of its process, or of the last one.
        self.name = ""
        #: The mark of processes that serve though the one that started them has died.
        self.orphans = ""
        #: With its process, or with its orphans.
        self.patience = Patience()
        self.restarts = Restarts()
        self.succession = Succession()
        #: Why it has no place on the GPUs yet; None if it has one or needs none (`Loader`).
        self.lacks_place: str | None = NO_PLACE
        self.problem: Problem | None = None
        self.display = Display(self.state)

    @property
    def slot(self) -> str:
        return self.spec.slot

    @property
    def state(self) -> State:
        """The state that people and programs are shown."""
        return shown(self.goal, self.phase)

    @property
    def stage(self) -> str:
        return self.display.stage

    @property
    def process(self) -> Process | None:
        return self.child.process if self.child else None

    @property
    def beat(self) -> Heartbeat | None:
        return self.child.beat if self.child else None

    @property
    def has_exited(self) -> bool:
        """Its process has, and what it left behind is still being swept up."""
        return self.child is not None and self.child.exited_at is not None

    @property
    def mark(self) -> str:
        """The mark that all of its processes carry; empty if there are none."""
        return self.child.process.identity.mark if self.child else self.orphans

    @property
    def is_desired(self) -> bool:
        return self.goal is not Goal.STOPPED

    @property
    def is_parked(self) -> bool:
        """It shall run only when its model is asked for."""
        return self.goal in (Goal.SLEEP, Goal.UNLOADED)

    @property
    def is_asleep(self) -> bool:
        return self.phase in SLEEPING

    @property
    def is_at_rest(self) -> bool:
        """It has no process, or one that sleeps."""
        return self.child is None or self.is_asleep

    @property
    def is_leaving(self) -> bool:
        return self.phase in LEAVING

    @property
    def is_waiting(self) -> bool:
        """It is to be started, now or a little later."""
        return self.goal is Goal.RUN and self.phase is Phase.PENDING

    def show(self, stage: str = "") -> None:
        """Say more of its state, for people."""
        self.display.show(self.state, stage)

    def advance(self, event: LifeEvent, now: float) -> Action:
        """Enter the phase that the event leads to. Returns what is to be done."""
        before = self.phase
        self.phase, action = LIFE[self.goal, before, event]
        if self.phase is not before:
            if self.child is not None:
                was_ready = self.child.ready_at is not None
                self.patience.entered(self.phase, self.spec, now, was_ready=was_ready)
                self.child.entered(self.phase, before, now)
            self.show(stage_on_entry(self.goal, self.phase, before))
        return action

    def _aim(self, goal: Goal) -> None:
        self.goal = goal
        self.advance(LifeEvent.ASKED, time.monotonic())

    def want(self, spec: UnitSpec, now: float) -> None:
        """It shall run, as described; former failures do not count any more."""
        self.spec = spec
        self.problem = None
        self.restarts.begin_anew(now)
        self._aim(Goal.RUN)
        self.show(self.stage if self.child else "waiting")

    def unwant(self) -> None:
        """It shall not run. A process that it has is for the fleet to stop."""
        self.succession = Succession()
        self._aim(Goal.STOPPED)
        self.show(self.stage if self.child else "")

    def park(self, *, asleep: bool = False) -> None:
        """It shall not run until its model is asked for; if it is ready now, it may be
        `asleep` until then."""
        if not self.is_desired:
            return
        may_sleep = asleep and (self.phase is Phase.READY or self.is_asleep)
        self._aim(Goal.SLEEP if may_sleep else Goal.UNLOADED)
        if self.is_at_rest:
            self.problem = None
            self.show(stage_on_entry(self.goal, self.phase, self.phase))

    def unpark(self, now: float) -> None:
        """Its model was asked for."""
        if self.is_parked:
            self.want(self.spec, now)

    def replace(self, spec: UnitSpec, now: float) -> None:
        """It shall be as described; its process goes on until it can be spared."""
        self.succession.notice = ""
        if self.child is not None:
            self.succession.replace(spec, now)
        elif self.goal is Goal.RUN:
            self.want(spec, now)
        else:
            self.spec = spec

    def wait_for(self, reason: str) -> None:
        """Say why its model waits, while it has no place or rests."""
        if self.is_waiting and self.lacks_place is not None:
            self.lacks_place = f"waiting: {reason}"
        elif self.is_parked and self.is_at_rest:
            self.show(f"waiting: {reason}")

    def fail(self, problem: Problem) -> None:
        """Give it up; if it sleeps, it sleeps on."""
        self.succession.is_returning = False
        self.problem = problem
        self.advance(LifeEvent.REFUSED, time.monotonic())
        self.show()

    def retry(self, now: float, wait_s: float) -> None:
        """Let it be started again after a while."""
        self.restarts.again_at(now + wait_s)
        self.show(f"again in {wait_s:.0f} s" if wait_s >= 1 else "again")

    def is_due(self, now: float) -> bool:
        return self.is_waiting and now >= self.restarts.start_at

    def attach(self, child: Child) -> None:
        """This is its process from now on."""
        self.child, self.name = child, child.name
        self.patience = Patience()

    def started(self, process: Process, name: str, log_start: int) -> None:
        self.attach(Child(process, name, log_start, process.started))
        self.advance(LifeEvent.DUE, process.started)

    def overdue(self, now: float) -> str:
        """Return why patience has ended; empty while it lasts."""
        if self.child is None or self.child.kill_reason or self.has_exited:
            return ""
        reason = self.patience.overdue(self.spec, self.phase, now)
        is_arriving = self.phase in (Phase.STARTING, Phase.WAKING)
        return f"{reason} ({self.stage})" if reason and is_arriving else reason

    def ended(self, now: float, orphans: str = "") -> Action:
        """Let go of its process, which is gone, and all that it started but for these `orphans`
        (their mark). Returns what is to be done."""
        self.child, self.orphans = None, orphans
        self.spec = self.succession.ended() or self.spec
        if self.is_parked:
            self.problem = None
        return self.advance(LifeEvent.EXITED, now)
