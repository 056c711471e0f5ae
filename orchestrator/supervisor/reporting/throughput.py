"""Tokens per second, from a counter that is seen to grow in steps."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW_S: Final = 10.0
#: Heartbeats come every 2.5 s: a counter that stood still for longer than two has stopped.
_STALE_AFTER_S: Final = 6.0


class Throughput:
    """The rate over the last seconds. Times are monotonic."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()

    def count(self, now: float, total: int) -> None:
        """The counter stands at `total`."""
        if self._steps and self._steps[-1][1] == total:
            if self._is_stale(now):
                self._steps = deque([(now, total)])
            return
        self._steps.append((now, total))
        while len(self._steps) > 2 and self._steps[0][0] < now - _WINDOW_S:
            self._steps.popleft()

    def per_second(self, now: float) -> float:
        if len(self._steps) < 2 or self._is_stale(now):
            return 0.0
        (start, first), (end, last) = self._steps[0], self._steps[-1]
        return (last - first) / (end - start)

    def _is_stale(self, now: float) -> bool:
        return now - self._steps[-1][0] > _STALE_AFTER_S
