"""One place in the supervisor's care: a process that shall run, and what became of it so far."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

import msgspec

from contract.bus.heartbeats import BEAT_EVERY_S, LEASE_MS
from contract.messages import DOWNLOADING, Heartbeat, State
from orchestrator.protocol.diagnosis import Problem, count_memory_kills
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec
from orchestrator.supervisor.reporting.throughput import Throughput
from orchestrator.supervisor.units.restarts import Restarts
from orchestrator.system.process import Identity, Process

#: A ready process that gives no sign of life for this long is killed and started again.
SILENT_FOR_S: Final = 20.0
#: Valkey may be writing much to a slow disk, and everybody else waits for it.
_VALKEY_SILENT_FOR_S: Final = 60.0
#: What a worker needs at most to finish or give back its jobs, and to end its engine.
_WORKER_STOP_S: Final = 40.0
_VALKEY_STOP_S: Final = 20.0
#: A process that is still starting has nothing to finish, and may not even hear.
_UNREADY_STOP_S: Final = 5.0
#: A lease that was renewed just before holds for longer.
_LEAVES_BY_S: Final = (LEASE_MS / 1000 - BEAT_EVERY_S) - 1
#: A worker says at once that it stops; one that has not by then stands still.
_HEARS_WITHIN_S: Final = 10.0
#: What the gateway needs at most to end all answers with an error.
_HURRY_S: Final = 10.0
_SERVER_START_S: Final = 60.0
#: In which a gateway starts all of its processes, one after another.
_RENEWAL_S: Final = 180.0
_ON_DEMAND: Final = "loads on demand"
_ASLEEP: Final = "wakes on demand"
#: Beyond what the gateway allocations open answers.
_GATEWAY_STOP_MARGIN_S: Final = 5.0


class UnitRecord(msgspec.Struct, frozen=True):
    """What the next supervisor has to know of a unit to take it over."""

    spec: UnitSpec
    is_desired: bool
    state: State
    since_unix_s: float
    restarts: int
    name: str
    log_start: int
    identity: Identity | None
    problem: Problem | None = None
    is_parked: bool = False
    rests_asleep: bool = False
    is_woken: bool = False
    #: When its process started, and when the start or waking began that it is in or has behind
    #: it: monotonic seconds, which all processes of one boot share.
    started_at: float = 0.0
    began_at: float = 0.0
    replacement: UnitSpec | None = None


class Unit:
    """Its methods keep the facts consistent; `Supervisor` decides and acts. Times without a
    suffix are monotonic seconds."""

    def __init__(self, spec: UnitSpec) -> None:
        self.spec = spec
        #: What it shall be from its next start on, which comes as soon as it can be spared.
        self.replacement: UnitSpec | None = None
        self.replacement_at = 0.0
        #: It leaves to come back: meanwhile its model may be waited for.
        self.is_returning = False
        #: That it may be is known to the gateways.
        self.is_missable = False
        #: The gateway's processes that are being replaced by others.
        self.renewing: frozenset[str] = frozenset()
        self.renewed_until = 0.0
        #: Why its last restart came to nothing.
        self.notice = ""
        self.is_desired = True
        #: It shall run only when somebody asks for its model.
        self.is_parked = False
        #: While it is parked it sleeps, and is not stopped.
        self.rests_asleep = False
        #: It has said that it sleeps.
        self.is_asleep = False
        #: It stops until somebody asks for its model: no answer is to be lost by that.
        self.is_retiring = False
        self.state = State.STOPPED
        self.stage = ""
        #: Since when it is in this state: for people, and to count from.
        self.since_unix_s = time.time()
        self.since = time.monotonic()
        self.process: Process | None = None
        self.name = ""
        self.log_start = 0
        self.start_at = 0.0
        #: Why it cannot be started at the moment, though it is due.
        self.obstacle = ""
        #: Why it has no place on a GPU yet (`Loader` finds it one, if it needs any).
        self.no_place = "waiting for a place"
        #: When the start, or the waking, began that it is in or has behind it.
        self.began_at = 0.0
        self.is_woken = False
        self.ready_at: float | None = None
        self.ready_after_s: float | None = None
        #: Whether the account knows what it took since it was ready.
        self.is_measured = False
        #: Since when a ready process has given no sign of life.
        self.silent_since: float | None = None
        #: When patience with the present state ends: a start, or a stop, that takes too long.
        self.deadline: float | None = None
        #: Why the supervisor itself killed the process.
        self.kill_reason = ""
        #: When it was told to stop, and whether it has said since that it does.
        self.told_at = 0.0
        self.has_heard = self.is_deaf = False
        #: Whether it had gone silent before it was told.
        self.was_silent = False
        self.has_exited = False
        self.exit_code: int | None = None
        self.problem: Problem | None = None
        #: How many processes the kernel had ended for their memory when this one began.
        self.memory_kills = 0
        self.restarts = 0
        #: How often its engine stood still.
        self.hangs = 0
        self.history = Restarts()
        self.beat: Heartbeat | None = None
        #: How often each of a gateway's processes has beaten.
        self.gateway_beats: dict[str, int] = {}
        #: The mark of processes that serve though the one that started them has died.
        self.orphans = ""
        self.throughput = Throughput()

    @property
    def slot(self) -> str:
        return self.spec.slot

    @property
    def mark(self) -> str:
        """What all of its processes carry; empty if there are none."""
        return self.process.identity.mark if self.process else self.orphans

    @property
    def is_survived(self) -> bool:
        """Whether the processes that its own has started may go on without it."""
        is_gateway = isinstance(self.spec, GatewaySpec)
        serves = self.state is State.READY or bool(self.orphans)
        return is_gateway and serves and self.is_desired and not self.kill_reason

    @property
    def is_succeeded(self) -> bool:
        """Whether a process of its own serves, and orphans need not any more. Before its second
        heartbeat it may not listen yet."""
        return any(count > 1 for count in self.gateway_beats.values())

    @property
    def start_timeout_s(self) -> float:
        if isinstance(self.spec, ReplicaSpec):
            return self.spec.start_timeout_s
        return _SERVER_START_S

    @property
    def stop_timeout_s(self) -> float:
        if self.ready_at is None:
            return _UNREADY_STOP_S
        match self.spec:
            case ReplicaSpec():
                return _WORKER_STOP_S + (self._answer_timeout_s if self.is_retiring else 0.0)
            case GatewaySpec(drain_timeout_s=drain_timeout_s):
                return drain_timeout_s + _GATEWAY_STOP_MARGIN_S
            case ValkeySpec():
                return _VALKEY_STOP_S

    @property
    def _silent_for_s(self) -> float:
        if isinstance(self.spec, ValkeySpec):
            return _VALKEY_SILENT_FOR_S
        # While it ends its engine it says nothing.
        return _WORKER_STOP_S if self.state is State.STOPPING else SILENT_FOR_S

    @property
    def _answer_timeout_s(self) -> float:
        return self.spec.answer_timeout_s if isinstance(self.spec, ReplicaSpec) else 0.0

    def want(self, spec: UnitSpec, now: float) -> None:
        """It shall run, as described; former failures do not count any more."""
        self.spec = spec
        self.is_desired = True
        self.problem = None
        self.history.forget()
        if self.process is None:
            self.start_at = now
            self.enter(State.STARTING, "waiting")

    def replace(self, spec: UnitSpec, now: float) -> None:
        """It shall be as described; what runs goes on until it can be spared."""
        self.notice = ""
        if self.process is not None:
            self.replacement, self.replacement_at = spec, now
            self.is_returning, self.is_missable = True, False
        elif self.shall_run:
            self.want(spec, now)
        else:
            self.spec = spec

    @property
    def is_to_be_replaced(self) -> bool:
        """It has to be told, once it can be spared."""
        return self.replacement is not None and self.state is not State.STOPPING

    def renew(self, spec: UnitSpec, now: float) -> None:
        """The gateway's processes are to be replaced, while it stays."""
        self.spec, self.notice = spec, ""
        self.renewing = frozenset(self.gateway_beats)
        self.renewed_until = now + _RENEWAL_S

    def has_renewed(self, serving: set[str], now: float) -> None:
        """Take note of the processes that take new connections."""
        if self.renewing and serving and not serving & self.renewing:
            self.renewing = frozenset()
        elif self.renewing and now > self.renewed_until:
            self.renewing = frozenset()
            self.notice = "goes on as it was: its log says why nothing was replaced"

    def unwant(self) -> None:
        """It shall not run. What runs is for the supervisor to stop."""
        self.is_desired = self.is_returning = False
        self.replacement = None
        if self.process is None:
            self.orphans = ""
            self.enter(State.STOPPED)

    def park(self, *, asleep: bool = False) -> None:
        """It shall not run until somebody asks for its model; if it is ready now, it may be
        `asleep` until then."""
        self.is_parked = True
        self.rests_asleep = asleep and (self.is_asleep or self.state is State.READY)
        if self.process is None:
            self.problem = None
            self.enter(State.STOPPED, _ON_DEMAND)
        elif self.is_asleep:
            self.problem = None
            self.enter(State.SLEEPING, _ASLEEP)

    def unpark(self, now: float) -> None:
        """Somebody has asked for its model."""
        if self.is_parked:
            self.is_parked = self.rests_asleep = False
            if self.state is not State.SLEEPING:
                self.want(self.spec, now)

    @property
    def is_resting(self) -> bool:
        """Parked, and nobody has asked for it."""
        return self.is_parked and self.process is None and self.stage == _ON_DEMAND

    @property
    def shall_run(self) -> bool:
        return self.is_desired and not self.is_parked

    @property
    def shall_sleep(self) -> bool:
        return self.is_desired and self.is_parked and self.rests_asleep

    @property
    def is_to_stop(self) -> bool:
        """It has to be told; or again, if it was not told to hurry."""
        if self.shall_run or self.shall_sleep:
            return False
        is_hurried = self.is_retiring and not self.is_desired
        return self.state is not State.STOPPING or is_hurried

    @property
    def is_to_fall_asleep(self) -> bool:
        """Only what it had awake tells what it needs when it wakes."""
        return self.shall_sleep and self.state is State.READY and self.is_measured

    @property
    def is_falling_asleep(self) -> bool:
        """It is to, or just does: its weights are not in the host's memory yet."""
        return self.shall_sleep and self.process is not None and not self.is_asleep

    @property
    def is_moving_memory(self) -> bool:
        """What it has on its GPUs is about to change, or has and was not measured yet."""
        is_settled = self.is_asleep and self.is_measured
        return self.process is not None and (
            self.state is State.STOPPING or (self.state is State.SLEEPING and not is_settled)
        )

    def hold_up(self, obstacle: str) -> None:
        """It cannot be started now."""
        self.obstacle = obstacle
        self.enter(State.STARTING, obstacle)

    def fail(self, problem: Problem) -> None:
        """It is given up."""
        self.is_returning = False
        self.problem = problem
        self.enter(State.FAILED)

    def enter(self, state: State, stage: str = "") -> None:
        if state is not self.state:
            self.since_unix_s = time.time()
            self.since = time.monotonic()
        self.state = state
        self.stage = stage

    @property
    def is_waiting(self) -> bool:
        """It is to be started, now or a little later."""
        return self.shall_run and self.process is None and self.state is State.STARTING

    def is_due(self, now: float) -> bool:
        return self.is_waiting and now >= self.start_at

    def started(self, process: Process, name: str, log_start: int) -> None:
        self.process = process
        self.name = name
        self.log_start = log_start
        self.obstacle = ""
        self.memory_kills = count_memory_kills()
        self.deadline = process.started + self.start_timeout_s
        self.began_at = process.started
        self._reset()
        self.enter(State.STARTING, "starting")

    def adopted(self, process: Process, record: UnitRecord) -> None:
        """A process that a former supervisor had started goes on as it was."""
        self.process = process
        self.no_place = ""
        self.name = record.name
        self.log_start = record.log_start
        self._reset()
        self.is_woken = record.is_woken
        if record.replacement is not None:
            self.replace(record.replacement, time.monotonic())
        self.began_at = record.began_at if record.is_woken else process.started
        # A stop or a sleep that was under way is asked for again, with fresh patience.
        is_to_ask_again = record.state in (State.STOPPING, State.SLEEPING)
        self.state = State.READY if is_to_ask_again else record.state
        self.since_unix_s = record.since_unix_s
        if self.state is State.READY:
            self.ready_at = time.monotonic()
        else:
            self.deadline = time.monotonic() + self.start_timeout_s

    def seen(self, now: float, *, is_ready: bool, stage: str = "") -> None:
        """A sign of life."""
        self.silent_since = None
        if self.state is State.STARTING and is_ready:
            self.ready_at = now
            self.ready_after_s = now - self.began_at
            self.is_returning = self.replacement is not None
            self.deadline = None
            self.enter(State.READY)
        elif self.state is not State.STOPPING:
            is_fetching = self.state is State.STARTING and stage.startswith(DOWNLOADING)
            if is_fetching and stage != self.stage:
                # How long a download takes is not for the start's timeout to bound.
                self.deadline = now + self.start_timeout_s
            self.stage = stage

    def missed(self, now: float) -> None:
        """There should have been a sign of life, and was none."""
        if self.state in (State.READY, State.SLEEPING) or self.is_retiring:
            self.silent_since = now if self.silent_since is None else self.silent_since
        if self.state is State.READY and self.silent_since is not None:
            self.stage = f"silent for {now - self.silent_since:.0f} s"

    def falling_asleep(self, now: float) -> None:
        # It drains first; then its weights are copied, which may take as long as to load them.
        self.deadline = now + self._answer_timeout_s + self.start_timeout_s
        self.is_measured = False
        self.enter(State.SLEEPING, "going to sleep")

    def fell_asleep(self, now: float) -> None:
        """It says that it sleeps."""
        self.silent_since = None
        if not self.is_asleep and self.state is not State.STOPPING:
            self.is_asleep, self.deadline, self.ready_at = True, None, now
            self.enter(State.SLEEPING, _ASLEEP)

    def waking(self, now: float) -> None:
        self.deadline = now + self.start_timeout_s
        self.began_at = now
        self.is_asleep = self.is_measured = False
        self.is_woken = True
        self.obstacle = ""
        self.enter(State.STARTING, "waking")

    def stopping(self, now: float) -> None:
        is_on_its_way = self.state is State.SLEEPING and not self.is_asleep
        self.is_retiring = self.is_desired and (self.state is State.READY or is_on_its_way)
        self.deadline = now + self.stop_timeout_s
        self.told_at = now
        self.has_heard = self.is_deaf = False
        self.was_silent = self.silent_since is not None
        self.enter(State.STOPPING, "draining" if self.state is State.READY else "")

    def hurrying(self, now: float) -> None:
        """It is to end at once, but may tell its clients."""
        self.deadline = min(self.deadline or now + _HURRY_S, now + _HURRY_S)
        self.enter(State.STOPPING, "ending all answers")

    def overdue(self, now: float) -> str:
        """Why patience has ended; empty while it lasts."""
        if self.process is None or self.kill_reason or self.has_exited:
            return ""
        if self.deadline is not None and now >= self.deadline:
            if self.state is State.STOPPING:
                return f"did not stop within {self.stop_timeout_s:.0f} s"
            if self.state is State.SLEEPING:
                return "did not fall asleep in time"
            return f"was not ready after {self.start_timeout_s:.0f} s ({self.stage})"
        if self.is_deaf and self.state is State.STOPPING:
            return f"did not hear within {_HEARS_WITHIN_S:.0f} s that it should stop"
        if self.silent_since is not None and now - self.silent_since > self._silent_for_s:
            return f"gave no sign of life for {self._silent_for_s:.0f} s"
        return ""

    def listens(self, now: float, beat: Heartbeat | None) -> None:
        """What a worker that was told to stop says of itself; None if its lease has ended. One that
        ends its lease itself does it sooner than a lease ends by itself."""
        has_left = beat is None and not self.was_silent and now - self.told_at < _LEAVES_BY_S
        if has_left or (beat is not None and beat.state is not State.READY):
            self.has_heard = True
        self.is_deaf = not self.has_heard and now - self.told_at > _HEARS_WITHIN_S

    def ended(self) -> None:
        """The process is gone, and all that it started, unless that survives it."""
        self.orphans = self.mark if self.is_survived else ""
        self.process = None
        self.renewing = frozenset()
        if self.replacement is not None:
            self.spec, self.replacement = self.replacement, None
        self.is_asleep = False
        self.deadline = None
        self.beat = None
        self.throughput = Throughput()

    def acquit(self, names: Collection[str], now: float) -> None:
        """A job, which has ended as poison, was to blame for the deaths of workers with these
        names. If they were why this was given up, it shall run again."""
        if self.history.forgive(names) and self.state is State.FAILED and self.is_desired:
            self.retry(now, 0.0)

    def retry(self, now: float, wait_s: float) -> None:
        self.restarts += 1
        self.start_at = now + wait_s
        self.enter(State.STARTING, f"again in {wait_s:.0f} s" if wait_s >= 1 else "again")

    def record(self) -> UnitRecord:
        return UnitRecord(
            spec=self.spec,
            is_desired=self.is_desired,
            state=self.state,
            since_unix_s=self.since_unix_s,
            restarts=self.restarts,
            name=self.name,
            log_start=self.log_start,
            identity=self.process.identity if self.process else None,
            problem=self.problem,
            is_parked=self.is_parked,
            rests_asleep=self.rests_asleep,
            is_woken=self.is_woken,
            started_at=self.process.started if self.process else 0.0,
            began_at=self.began_at,
            replacement=self.replacement,
        )

    def _reset(self) -> None:
        self.has_exited = False
        self.exit_code = None
        self.kill_reason = ""
        self.ready_at = None
        self.ready_after_s = None
        self.is_measured = False
        self.is_asleep = self.is_woken = self.is_retiring = False
        self.silent_since = None
        self.gateway_beats = {}
        self.beat = None
