"""How often a gateway process looks at its open replies."""

from __future__ import annotations

import pytest

from gateway.lifecycle.housekeeping import scan_pace_s


@pytest.mark.parametrize(
    ("replies", "pace_s"), [(0, 0.25), (2_500, 0.25), (5_000, 0.5), (10_000, 1.0), (99_999, 1.0)]
)
def test_many_replies_are_looked_at_less_often(replies: int, pace_s: float) -> None:
    assert scan_pace_s(replies) == pytest.approx(pace_s)
