"""One place in the supervisor's care: a process that shall run, and what became of it so far."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from contract.messages import Heartbeat, State
from contract.supervision.problem import Problem
from orchestrator.protocol.diagnosis import count_memory_kills
from orchestrator.protocol.life import LEAVING, LIFE, Action, Goal, LifeEvent, Phase, shown
from orchestrator.protocol.specs import GatewaySpec, UnitSpec
from orchestrator.supervisor.reporting.throughput import Throughput
from orchestrator.supervisor.units.patience import Patience
from orchestrator.supervisor.units.restarts import Restarts
from orchestrator.supervisor.units.succession import Succession
from orchestrator.system.process import Process

ON_DEMAND: Final = "loads on demand"
_ASLEEP: Final = "wakes on demand"


class Unit:
    """What it shall be (`goal`), where it is (`phase`), and the facts of its process. Events move
    the phase (`advance`). `stage` is for people to read. Times are monotonic seconds."""

    def __init__(self, spec: UnitSpec) -> None:
        self.spec = spec
        self.goal = Goal.STOPPED
        self.phase = Phase.PENDING
        self.succession = Succession()
        self.stage = ""
        #: Since when it is in the state that is shown: for people, and to count from.
        self.since_unix_s = time.time()
        self.since = time.monotonic()
        self.start_at = 0.0
        #: Whether it is due, and something stands in the way of its start or waking.
        self.is_held_up = False
        #: Whether it has its place on the GPUs, or needs none (`Loader` finds it one).
        self.has_place = False
        #: What it waits for while it has none: for people to read.
        self.waits_for = "waiting for a place"
        self.problem: Problem | None = None
        self.restarts = 0
        #: How often its engine stood still.
        self.hangs = 0
        self.history = Restarts()
        #: The mark of processes that serve though the one that started them has died.
        self.orphans = ""
        self.process: Process | None = None
        self.name = ""
        self.log_start = 0
        #: How many processes the kernel had ended for their memory when this one began.
        self.memory_kills = 0
        #: When the start, or the waking, began that it is in or has behind it.
        self.began_at = 0.0
        self._forget_process()
        self._shown = self.state

    def _forget_process(self) -> None:
        self.patience = Patience()
        #: Why the supervisor itself killed the process.
        self.kill_reason = ""
        self.exited_at: float | None = None
        self.exit_code: int | None = None
        self.ready_at: float | None = None
        self.ready_after_s: float | None = None
        #: Whether the account knows what it took since it was ready.
        self.is_measured = False
        #: It sleeps, and there is no room for it to wake; `problem` says why.
        self.is_stranded = False
        self.beat: Heartbeat | None = None
        #: How often each of a gateway's processes has beaten.
        self.gateway_beats: dict[str, int] = {}
        self.throughput = Throughput()

    @property
    def slot(self) -> str:
        return self.spec.slot

    @property
    def state(self) -> State:
        """What people and programs are shown."""
        return State.FAILED if self.is_stranded else shown(self.goal, self.phase)

    @property
    def mark(self) -> str:
        """What all of its processes carry; empty if there are none."""
        return self.process.identity.mark if self.process else self.orphans

    @property
    def is_desired(self) -> bool:
        return self.goal is not Goal.STOPPED

    @property
    def is_parked(self) -> bool:
        """It shall run only when its model is asked for."""
        return self.goal in (Goal.SLEEP, Goal.UNLOADED)

    @property
    def has_exited(self) -> bool:
        """Its process has, and what it left behind is still being swept up."""
        return self.exited_at is not None

    @property
    def is_asleep(self) -> bool:
        return self.phase is Phase.ASLEEP

    @property
    def is_leaving(self) -> bool:
        return self.phase in LEAVING

    @property
    def is_waiting(self) -> bool:
        """It is to be started, now or a little later."""
        return self.goal is Goal.RUN and self.phase is Phase.PENDING

    @property
    def is_woken(self) -> bool:
        """What it is in, or has behind it, is a waking and no start."""
        return self.process is not None and self.began_at > self.process.started

    @property
    def is_survived(self) -> bool:
        """Whether the processes that its own has started may go on without it. Of a gateway that
        stops, they finish what they have."""
        is_gateway = isinstance(self.spec, GatewaySpec)
        serves = self.phase is Phase.READY or self.is_leaving or bool(self.orphans)
        return is_gateway and serves and not self.kill_reason

    @property
    def is_seen_off(self) -> bool:
        """It has stopped, but for former processes that finish what they have."""
        return self.process is None and bool(self.orphans) and not self.is_desired

    def advance(self, event: LifeEvent, now: float) -> Action:
        """Enter the phase that the event leads to. Returns what is to be done."""
        before = self.phase
        self.phase, action = LIFE[self.goal, self.phase, event]
        if self.phase is not before:
            self._entered(before, now)
        return action

    def _entered(self, before: Phase, now: float) -> None:
        match self.phase:
            case Phase.READY:
                self.ready_at = now
                self.patience.rest()
                self.show()
            case Phase.SUSPENDING:
                self.patience.sleep(self.spec, now)
                self.is_measured = False
                self.show("going to sleep")
            case Phase.ASLEEP:
                self.ready_at = now
                self.patience.rest()
                self.show(_ASLEEP)
            case Phase.WAKING:
                self.patience.start(self.spec, now)
                self.began_at = now
                self.is_measured = self.is_stranded = False
                self.is_held_up = False
                self.show("waking")
            case Phase.DRAINING | Phase.RELEASING:
                drains, was_ready = self.phase is Phase.DRAINING, self.ready_at is not None
                self.patience.stop(self.spec, now, was_ready=was_ready, drains=drains)
                self.show("draining" if before is Phase.READY else "")
            case _:
                self.show(ON_DEMAND if self.is_parked else "")

    def show(self, stage: str = "") -> None:
        """Say more of its state."""
        if self.state is not self._shown:
            self._shown = self.state
            self.since_unix_s, self.since = time.time(), time.monotonic()
        self.stage = stage

    def _aim(self, goal: Goal, now: float) -> None:
        self.goal = goal
        self.advance(LifeEvent.ASKED, now)

    def want(self, spec: UnitSpec, now: float) -> None:
        """It shall run, as described; former failures do not count any more."""
        self.spec = spec
        self.problem, self.is_stranded = None, False
        self.history.forget()
        self._aim(Goal.RUN, now)
        if self.process is None:
            self.start_at = now
        self.show("waiting" if self.process is None else self.stage)

    def unwant(self) -> None:
        """It shall not run. What runs is for the fleet to stop."""
        self.succession = Succession()
        self._aim(Goal.STOPPED, time.monotonic())
        self.show("" if self.process is None else self.stage)

    def park(self, *, asleep: bool = False) -> None:
        """It shall not run until its model is asked for; if it is ready now, it may be
        `asleep` until then."""
        if not self.is_desired:
            return
        may_sleep = asleep and self.phase in (Phase.READY, Phase.ASLEEP)
        self._aim(Goal.SLEEP if may_sleep else Goal.UNLOADED, time.monotonic())
        if self.process is None or self.is_asleep:
            self.problem, self.is_stranded = None, False
            self.show(_ASLEEP if self.is_asleep else ON_DEMAND)

    def unpark(self, now: float) -> None:
        """Its model was asked for."""
        if self.is_parked:
            self.want(self.spec, now)

    def replace(self, spec: UnitSpec, now: float) -> None:
        """It shall be as described; what runs goes on until it can be spared."""
        self.succession.notice = ""
        if self.process is not None:
            self.succession.replace(spec, now)
        elif self.goal is Goal.RUN:
            self.want(spec, now)
        else:
            self.spec = spec

    def hold_up(self, obstacle: str) -> None:
        """It cannot be started or woken now."""
        self.is_held_up = True
        self.show(obstacle)

    def wait_for(self, reason: str) -> None:
        """Say what its model waits for, while it rests or has no place."""
        if self.is_waiting:
            self.waits_for = f"waiting: {reason}"
        elif self.is_parked and (self.process is None or self.is_asleep):
            self.show(f"waiting: {reason}")

    def fail(self, problem: Problem) -> None:
        """It is given up; if it sleeps, it sleeps on."""
        self.succession.is_returning = False
        self.problem = problem
        self.advance(LifeEvent.REFUSED, time.monotonic())
        self.is_stranded = self.is_asleep
        self.show()

    def retry(self, now: float, wait_s: float) -> None:
        self.restarts += 1
        self.is_held_up = False
        self.start_at = now + wait_s
        self.show(f"again in {wait_s:.0f} s" if wait_s >= 1 else "again")

    def acquit(self, names: Collection[str], now: float) -> None:
        """A job, which has ended as poison, was to blame for the deaths of workers with these
        names. If they were why this was given up, it shall run again."""
        is_given_up = self.phase is Phase.FAILED and self.goal is Goal.RUN
        if self.history.forgive(names) and is_given_up:
            self.advance(LifeEvent.ASKED, now)
            self.retry(now, 0.0)

    def is_due(self, now: float) -> bool:
        return self.is_waiting and now >= self.start_at

    def attach(self, process: Process, name: str, log_start: int, began_at: float) -> None:
        """This is its process from now on."""
        self.process, self.name, self.log_start = process, name, log_start
        self.began_at = began_at
        self._forget_process()

    def started(self, process: Process, name: str, log_start: int) -> None:
        self.attach(process, name, log_start, process.started)
        self.is_held_up = False
        self.memory_kills = count_memory_kills()
        self.patience.start(self.spec, process.started)
        self.advance(LifeEvent.DUE, process.started)
        self.show("starting")

    def seen(
        self, now: float, *, is_ready: bool, stage: str = "", downloaded_bytes: int = 0
    ) -> None:
        """Take note of a sign of life."""
        self.patience.heard()
        is_starting = self.phase in (Phase.STARTING, Phase.WAKING)
        if is_starting and is_ready:
            self.advance(LifeEvent.SERVES, now)
            self.ready_after_s = now - self.began_at
            self.succession.arrived()
        elif not self.is_leaving:
            if is_starting:
                self.patience.downloaded(self.spec, downloaded_bytes, now)
            self.stage = stage

    def missed(self, now: float) -> None:
        """There should have been a sign of life, and was none."""
        self.patience.missed(self.phase, now)
        silent_s = self.patience.silent_s(now)
        if self.phase is Phase.READY and silent_s is not None:
            self.stage = f"silent for {silent_s:.0f} s"

    def hurrying(self, now: float) -> None:
        """It is to end at once, but may tell its clients."""
        self.advance(LifeEvent.DUE, now)
        self.patience.hurry(now)
        self.show("ending all answers")

    def overdue(self, now: float) -> str:
        """Return why patience has ended; empty while it lasts."""
        if self.process is None or self.kill_reason or self.has_exited:
            return ""
        reason = self.patience.overdue(self.spec, self.phase, now)
        is_starting = self.phase in (Phase.STARTING, Phase.WAKING)
        return f"{reason} ({self.stage})" if reason and is_starting else reason

    def ended(self, now: float) -> Action:
        """Return the process is gone, and all that it started, unless that survives it. Answers
        what is to be done."""
        self.orphans = self.mark if self.is_survived else ""
        self.process = self.exited_at = self.beat = None
        self.is_stranded = False
        self.throughput = Throughput()
        self.spec = self.succession.ended() or self.spec
        if self.is_parked:
            self.problem = None
        return self.advance(LifeEvent.EXITED, now)
