"""The clients that wait for something to happen, and are told what does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from contract.messages import State
from contract.supervision.control import Finished, Outcome, StartProgress
from contract.supervision.problem import Problem
from orchestrator.protocol.life import Goal
from orchestrator.protocol.specs import VALKEY
from orchestrator.supervisor.control_server import Connection
from orchestrator.supervisor.units.former import is_seen_off
from orchestrator.supervisor.units.unit import Unit

#: Whether nothing more is to be waited for with a unit, among all units.
IsSettled: TypeAlias = Callable[[Unit, Mapping[str, Unit]], bool]


class Waiter:
    """A client that asked for units to be started or stopped."""

    def __init__(
        self,
        connection: Connection,
        slots: list[str],
        is_settled: IsSettled,
        notes: dict[str, str],
    ) -> None:
        self.connection = connection
        self.slots = slots
        self._is_settled = is_settled
        #: Why nothing had to be done, by slot, or by a model that has none.
        self.notes = notes
        self.since = time.monotonic()
        self.settled_after_s: dict[str, float] = {}

    def is_settled(self, units: Mapping[str, Unit]) -> bool:
        for slot in self.slots:
            if slot not in self.settled_after_s and self._is_settled(units[slot], units):
                self.settled_after_s[slot] = time.monotonic() - self.since
        return len(self.settled_after_s) == len(self.slots)

    def outcomes(self, units: Mapping[str, Unit]) -> list[Outcome]:
        absent = [each for each in self.notes if each not in self.slots]
        return [Outcome(each, State.STOPPED, self.notes[each]) for each in absent] + [
            Outcome(
                slot=slot,
                state=units[slot].state,
                note=self.notes.get(slot, "") or units[slot].succession.notice,
                seconds=self.settled_after_s.get(slot, 0.0),
                problem=units[slot].problem if units[slot].state is State.FAILED else None,
            )
            for slot in self.slots
        ]


class _Shown(NamedTuple):
    state: State
    stage: str
    problem: Problem | None


class Listeners:
    """All that are told about changes."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self._followers: dict[Connection, bool] = {}
        self._shown: dict[str, _Shown] = {}

    @property
    def is_empty(self) -> bool:
        return not self.waiters and not self._followers

    def follow(
        self, connection: Connection, units: Mapping[str, Unit], *, stop_at_end: bool
    ) -> None:
        self._followers[connection] = stop_at_end
        for unit in units.values():
            connection.send(_progress(unit))

    def wait(self, waiter: Waiter, units: Mapping[str, Unit]) -> None:
        self.waiters.append(waiter)
        for slot in waiter.slots:
            waiter.connection.send(_progress(units[slot]))

    def leave(self, connection: Connection) -> bool:
        """Return whether everything shall stop, now that this one is gone."""
        self.waiters = [each for each in self.waiters if each.connection is not connection]
        return self._followers.pop(connection, False)

    def tell(self, units: Mapping[str, Unit]) -> bool:
        """Tell what has changed since the last call. Returns whether anything has."""
        changed = [unit for unit in units.values() if self._has_changed(unit)]
        for unit in changed:
            progress = _progress(unit)
            for waiter in self.waiters:
                if unit.slot in waiter.slots:
                    waiter.connection.send(progress)
            for follower in self._followers:
                follower.send(progress)
        return bool(changed)

    def release(self, units: Mapping[str, Unit]) -> None:
        """Answer the clients that have nothing left to wait for."""
        done = [waiter for waiter in self.waiters if waiter.is_settled(units)]
        self.waiters = [waiter for waiter in self.waiters if waiter not in done]
        for waiter in done:
            waiter.connection.finish(Finished(waiter.outcomes(units)))

    def _has_changed(self, unit: Unit) -> bool:
        shown = _Shown(unit.state, _doing(unit), unit.problem)
        if self._shown.get(unit.slot) == shown:
            return False
        self._shown[unit.slot] = shown
        return True


def _progress(unit: Unit) -> StartProgress:
    return StartProgress(unit.slot, unit.state, _doing(unit), unit.problem)


def _doing(unit: Unit) -> str:
    """Return its stage, with what its worker remarks while it starts: who asks may know it all."""
    said = unit.beat.remark if unit.beat and unit.state is State.STARTING else ""
    return f"{unit.stage} ({said})" if unit.stage and said else unit.stage


def is_stopped(unit: Unit, units: Mapping[str, Unit]) -> bool:
    return unit.process is None and not is_seen_off(unit)


def is_unloaded(unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Return whether a model has given its GPU memory back: it has stopped, or sleeps."""
    return unit.process is None or (unit.is_asleep and unit.goal is Goal.SLEEP)


def is_loaded_or_failed(unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Return whether a model that was asked for is there, or will not come."""
    is_over = unit.state in (State.READY, State.FAILED) or not unit.is_desired
    return is_over or _is_valkey_lost(unit, units)


def is_started_or_failed(unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Return whether a start has come to its end, good or bad."""
    if unit.state in (State.READY, State.SLEEPING, State.FAILED, State.STOPPED):
        return True
    return _is_valkey_lost(unit, units)


def is_restarted_or_failed(unit: Unit, units: Mapping[str, Unit]) -> bool:
    """Return whether a restart has come to its end, good or bad."""
    return not unit.succession.is_under_way and is_started_or_failed(unit, units)


def _is_valkey_lost(unit: Unit, units: Mapping[str, Unit]) -> bool:
    valkey = units.get(VALKEY)
    return unit.process is None and valkey is not None and valkey.state is State.FAILED
