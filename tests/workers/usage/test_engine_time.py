"""The time of an engine is shared by those that run at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.usage.engine_time import EngineTime


def test_those_that_run_at_once_share_each_second() -> None:
    now = 0.0
    shared = EngineTime(lambda: now)
    a = shared.begin()
    now = 2.0
    b = shared.begin()
    now = 6.0
    assert shared.so_far(a) == 4.0
    assert shared.end(b) == 2.0
    now = 7.0
    assert shared.end(a) == 5.0
    now = 100.0
    c = shared.begin()
    assert shared.end(c) == 0.0


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_all_together_take_the_time_in_which_any_ran(steps: list[tuple[int, bool]]) -> None:
    now = 0.0
    shared = EngineTime(lambda: now)
    running: list[float] = []
    taken = busy = 0.0
    for seconds, begins in [*steps, *((1, False) for _ in steps)]:
        now += seconds
        busy += seconds if running else 0
        if begins:
            running.append(shared.begin())
        elif running:
            taken += shared.end(running.pop(0))
    assert abs(taken - busy) < 1e-6
