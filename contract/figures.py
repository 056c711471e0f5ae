"""Counters of gateway processes, as their heartbeats carry them: the supervisor reads them, and
any process that serves /metrics writes them down for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import ClassVar

import msgspec


class Histogram(msgspec.Struct, array_like=True):
    """Seconds, by bucket: `counts[i]` are at most `bounds[i]`, and the last one above them all."""

    bounds: ClassVar[tuple[float, ...]]
    counts: list[int]
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> dict[float, int]:
        """Return how many were at most so many seconds, which is the key; up to infinity."""
        return dict(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=False))


class Waits(Histogram):
    """A histogram of the waits of clients, in seconds."""

    bounds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Gaps(Histogram):
    """Between two tokens."""

    bounds = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1)


class ModelFigures(msgspec.Struct, array_like=True):
    """The answers of one model. All but `open` only grow while the process lives."""

    open: int
    tokens: int
    queue_s: Waits
    first_token_s: Waits
    token_s: Gaps

    @classmethod
    def new(cls) -> ModelFigures:
        queue, first, token = ([0] * (len(h.bounds) + 1) for h in (Waits, Waits, Gaps))
        return cls(0, 0, Waits(queue), Waits(first), Gaps(token))


class Requests(msgspec.Struct, array_like=True, frozen=True):
    """How many requests a route answered so."""

    route: str
    status: int
    model: str
    count: int


class Failures(msgspec.Struct, array_like=True, frozen=True):
    """How many answers of a model ended with an error."""

    model: str
    code: str
    count: int


class Figures(msgspec.Struct):
    """All that one process has counted."""

    started_unix_s: float = 0.0
    models: dict[str, ModelFigures] = {}
    requests: list[Requests] = []
    failures: list[Failures] = []
    unreadable_frames: int = 0
    #: Requests with fields that had no effect.
    ignoring: int = 0
