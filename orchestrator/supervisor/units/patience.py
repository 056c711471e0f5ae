"""How long a process may take to start, sleep or stop, and be silent, before it is killed."""

from __future__ import annotations

from typing import Final, NamedTuple

from contract.bus.heartbeats import BEAT_EVERY_S, LEASE_MS
from contract.messages import Heartbeat, State
from orchestrator.protocol.life import LEAVING, SLEEPING, Phase
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec

#: A ready process that gives no sign of life for this long is killed and started again.
SILENT_FOR_S: Final = 20.0
#: Valkey may be writing much to a slow disk, and everything else waits for it.
_VALKEY_SILENT_FOR_S: Final = 60.0
#: The most that a worker needs to finish or give back its jobs, and to end its engine.
_WORKER_STOP_S: Final = 40.0
_VALKEY_STOP_S: Final = 20.0
#: A process that is still starting has nothing to finish, and may not even hear.
_UNREADY_STOP_S: Final = 5.0
#: A lease that was renewed just before holds for longer.
_LEAVES_BY_S: Final = (LEASE_MS / 1000 - BEAT_EVERY_S) - 1
#: A worker says at once that it stops; one that has not by then stands still.
_HEARS_WITHIN_S: Final = 10.0
#: The most that the gateway needs to end all answers with an error.
_HURRY_S: Final = 10.0
_SERVER_START_S: Final = 60.0
#: Beyond what the gateway allocations open answers.
_GATEWAY_STOP_MARGIN_S: Final = 5.0
#: The phases in which a process gives signs of life.
_HEARABLE: Final = SLEEPING | {Phase.READY, Phase.SUSPENDING, Phase.DRAINING}


def start_timeout_s(spec: UnitSpec) -> float:
    return spec.start_timeout_s if isinstance(spec, ReplicaSpec) else _SERVER_START_S


def sleep_timeout_s(spec: UnitSpec) -> float:
    """It drains first; then its weights are copied, which may take as long as to load them."""
    return _answer_timeout_s(spec) + start_timeout_s(spec)


def stop_timeout_s(spec: UnitSpec, *, drains: bool) -> float:
    """For a process that has been ready. If it `drains`, its answers may take their time."""
    match spec:
        case ReplicaSpec():
            return _WORKER_STOP_S + (_answer_timeout_s(spec) if drains else 0.0)
        case GatewaySpec(drain_timeout_s=drain_timeout_s):
            return drain_timeout_s + _GATEWAY_STOP_MARGIN_S
        case ValkeySpec():
            return _VALKEY_STOP_S


class _Deadline(NamedTuple):
    at: float
    #: The reason that is given for killing a process that has missed it.
    reason: str


class _StopRequest:
    """A request to stop, and whether the worker has heard it."""

    def __init__(self, now: float, *, was_silent: bool) -> None:
        self._told_at = now
        self._was_silent = was_silent
        self._has_heard = self.is_deaf = False

    def answered(self, now: float, beat: Heartbeat | None) -> None:
        """`beat` is None if its lease has ended. One that ends its lease itself does it sooner
        than a lease ends by itself."""
        age_s = now - self._told_at
        has_left = beat is None and not self._was_silent and age_s < _LEAVES_BY_S
        if has_left or (beat is not None and beat.state is not State.READY):
            self._has_heard = True
        self.is_deaf = not self._has_heard and age_s > _HEARS_WITHIN_S


class Patience:
    """With one process. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._deadline: _Deadline | None = None
        self._silent_since: float | None = None
        self._stop: _StopRequest | None = None
        self._downloaded_bytes = 0

    @property
    def deadline(self) -> float | None:
        return self._deadline.at if self._deadline else None

    def entered(self, phase: Phase, spec: UnitSpec, now: float, *, was_ready: bool) -> None:
        """Begin to wait for the end of a phase, where it has to come to one."""
        match phase:
            case Phase.STARTING | Phase.WAKING:
                self.start(spec, now)
            case Phase.SUSPENDING:
                limit_s = sleep_timeout_s(spec)
                self._deadline = _Deadline(now + limit_s, "did not fall asleep in time")
            case Phase.DRAINING | Phase.RELEASING:
                self.stop(spec, now, was_ready=was_ready, drains=phase is Phase.DRAINING)
            case _:
                self._deadline = None

    def start(self, spec: UnitSpec, now: float) -> None:
        """Let its start, or its waking, take the time from now on."""
        limit_s = start_timeout_s(spec)
        self._deadline = _Deadline(now + limit_s, f"was not ready after {limit_s:.0f} s")

    def downloaded(self, spec: UnitSpec, size_bytes: int, now: float) -> None:
        """So much of its model is here. How long a download takes is not for the start's timeout to
        bound: while it goes on, the time begins anew."""
        if size_bytes > self._downloaded_bytes:
            self._downloaded_bytes = size_bytes
            self.start(spec, now)

    def stop(self, spec: UnitSpec, now: float, *, was_ready: bool, drains: bool) -> None:
        limit_s = stop_timeout_s(spec, drains=drains) if was_ready else _UNREADY_STOP_S
        self._deadline = _Deadline(now + limit_s, f"did not stop within {limit_s:.0f} s")
        self._stop = _StopRequest(now, was_silent=self._silent_since is not None)

    def hurry(self, now: float) -> None:
        """A gateway that stops may only tell its clients any more."""
        at = min(self._deadline.at, now + _HURRY_S) if self._deadline else now + _HURRY_S
        self._deadline = _Deadline(at, f"did not stop within {_HURRY_S:.0f} s")

    def heard(self) -> None:
        """It gave a sign of life."""
        self._silent_since = None

    def missed(self, phase: Phase, now: float) -> None:
        """A sign of life should have come, and did not."""
        if phase in _HEARABLE and self._silent_since is None:
            self._silent_since = now

    def silent_s(self, now: float) -> float | None:
        return None if self._silent_since is None else now - self._silent_since

    def answered(self, now: float, beat: Heartbeat | None) -> None:
        """Take note of the heartbeat of a worker that was told to stop; None if its lease has
        ended."""
        if self._stop is not None:
            self._stop.answered(now, beat)

    def overdue(self, spec: UnitSpec, phase: Phase, now: float) -> str:
        """Return why patience has ended; empty while it lasts."""
        if self._deadline is not None and now >= self._deadline.at:
            return self._deadline.reason
        if self._stop is not None and self._stop.is_deaf:
            return f"did not hear within {_HEARS_WITHIN_S:.0f} s that it should stop"
        limit_s, silent_s = _silence_s(spec, phase), self.silent_s(now)
        if silent_s is not None and silent_s > limit_s:
            return f"gave no sign of life for {limit_s:.0f} s"
        return ""


def _silence_s(spec: UnitSpec, phase: Phase) -> float:
    if isinstance(spec, ValkeySpec):
        return _VALKEY_SILENT_FOR_S
    # While it ends its engine it says nothing.
    return _WORKER_STOP_S if phase in LEAVING else SILENT_FOR_S


def _answer_timeout_s(spec: UnitSpec) -> float:
    return spec.answer_timeout_s if isinstance(spec, ReplicaSpec) else 0.0
