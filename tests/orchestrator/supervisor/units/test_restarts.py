"""When a dead process is started again, told as histories."""

from __future__ import annotations

from contract.endings import EndedBy
from orchestrator.supervisor.units.restarts import Restarts


def longest(low: float, high: float) -> float:
    return high


def test_waits_double_up_to_a_minute() -> None:
    restarts = Restarts(uniform=longest)
    waits = [restarts.died(now=300.0 * death, up_s=1.0) for death in range(9)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_wait_is_anything_between_nothing_and_its_ceiling() -> None:
    ranges = []

    def remember(low: float, high: float) -> float:
        ranges.append((low, high))
        return low

    restarts = Restarts(uniform=remember)
    restarts.died(0, up_s=1)
    restarts.died(1, up_s=1)
    restarts.died(2, up_s=1)
    assert ranges == [(0, 1), (0, 2)]


def test_five_deaths_in_ten_minutes_are_the_end() -> None:
    restarts = Restarts(uniform=longest)
    assert [restarts.died(now=float(now), up_s=1.0) is None for now in (0, 100, 200, 300, 599)] == [
        False,
        False,
        False,
        False,
        True,
    ]


def test_what_somebody_may_have_killed_is_started_twice_as_often() -> None:
    restarts = Restarts(uniform=longest)
    outside = [restarts.died(float(n), up_s=1.0, ended_by=EndedBy.OUTSIDE) for n in range(10)]
    assert [wait is None for wait in outside] == [False] * 9 + [True]


def test_deaths_of_long_ago_do_not_count() -> None:
    restarts = Restarts(uniform=longest)
    for now in (0, 100, 200, 300):
        restarts.died(float(now), up_s=1)
    assert restarts.died(601, up_s=1) is not None


def test_three_starts_that_fail_in_a_row_are_the_end() -> None:
    restarts = Restarts(uniform=longest)
    assert [restarts.died(float(now), up_s=None) is None for now in range(3)] == [
        False,
        False,
        True,
    ]


def test_a_start_that_succeeds_breaks_the_row() -> None:
    restarts = Restarts(uniform=longest)
    restarts.died(0, up_s=None)
    restarts.died(1, up_s=None)
    restarts.died(2, up_s=5)
    assert restarts.died(3, up_s=None) is not None


def test_ten_good_minutes_wipe_the_slate() -> None:
    restarts = Restarts(uniform=longest)
    for now in range(4):
        restarts.died(float(now), up_s=1)
    assert restarts.died(700, up_s=600) == 0


def test_being_asked_for_wipes_the_slate() -> None:
    restarts = Restarts(uniform=longest)
    for now in range(3):
        restarts.died(float(now), up_s=None)
    restarts.begin_anew(0.0)
    assert restarts.died(4, up_s=None) == 0


def test_deaths_that_a_job_was_to_blame_for_do_not_count() -> None:
    restarts = Restarts(uniform=longest)
    for _ in range(5):
        waits = [restarts.died(float(n), up_s=1.0, name=f"w-{n}") for n in range(3)]
        assert waits == [0, 1, 2]
        assert not restarts.forgive({"w-0", "w-1", "w-2", "of-another"})


def test_who_was_given_up_for_deaths_that_a_job_was_to_blame_for_may_go_on() -> None:
    restarts = Restarts(uniform=longest)
    for now in range(5):
        restarts.died(float(now), up_s=1.0, name=f"w-{now}")
    assert restarts.forgive({"w-1", "w-2", "w-4"})
    assert not restarts.forgive({"w-1", "w-2", "w-4"})
    assert restarts.died(6.0, up_s=1.0) == 2
    assert restarts.died(7.0, up_s=1.0) == 4
    assert restarts.died(8.0, up_s=1.0) is None
