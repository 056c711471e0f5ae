"""Deadlines of one connection, by a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.server.deadline import Deadline


class Clock:
    """Stands where the event loop does: time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        self._timers: list[tuple[float, asyncio.Handle]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.Handle:
        loop: Any = self
        handle = asyncio.Handle(callback, (), loop)
        self.made += 1
        self._timers.append((when, handle))
        return handle

    def get_debug(self) -> bool:
        return False

    def pass_to(self, when: float) -> None:
        while due := sorted((at, id(h), h) for at, h in self._timers if at <= when):
            self.now, _, handle = due[0]
            self._timers = [each for each in self._timers if each[1] is not handle]
            if not handle.cancelled():
                handle._run()
        self.now = when


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def late() -> list[float]:
    return []


@pytest.fixture
def deadline(clock: Clock, late: list[float]) -> Deadline:
    loop: Any = clock
    return Deadline(loop, late.append)


def test_what_does_not_come_is_late_once(
    clock: Clock, deadline: Deadline, late: list[float]
) -> None:
    deadline.expect_within(10)
    clock.pass_to(9.9)
    assert late == []
    clock.pass_to(30)
    assert late == [10]


def test_a_deadline_moves_on_without_another_timer(
    clock: Clock, deadline: Deadline, late: list[float]
) -> None:
    deadline.expect_within(10)
    clock.pass_to(4)
    deadline.expect_within(30)
    assert clock.made == 1
    clock.pass_to(33.9)
    assert late == []
    clock.pass_to(34)
    assert late == [30]


def test_a_deadline_before_the_last_is_kept(
    clock: Clock, deadline: Deadline, late: list[float]
) -> None:
    deadline.expect_within(30)
    deadline.relax()
    deadline.expect_within(10)
    clock.pass_to(10)
    assert late == [10]


def test_nothing_is_late_that_is_not_expected(
    clock: Clock, deadline: Deadline, late: list[float]
) -> None:
    deadline.expect_within(10)
    deadline.relax()
    clock.pass_to(20)
    deadline.expect_within(10)
    deadline.close()
    clock.pass_to(40)
    assert late == []
