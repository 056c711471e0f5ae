"""How fast answers began in the last minutes, and how many failed, from the counters that gateways
publish."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from contract.figures import Figures

_WINDOW_S: Final = 300.0
#: The code of answers that somebody cancelled.
_NO_FAULT: Final = "cancelled"

#: Answers that began within so many seconds (the key), by bucket and cumulative.
Buckets: TypeAlias = dict[float, float]


class Quantiles(NamedTuple):
    """Seconds; None if nothing was answered."""

    p50_s: float | None = None
    p99_s: float | None = None


class _Reading(NamedTuple):
    """The counters of all gateway processes together, by model."""

    at: float
    began: dict[str, Buckets]
    failed: dict[str, int]


class RecentAnswers:
    """By model, from the metrics of all gateway processes. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._readings: deque[_Reading] = deque()

    def count(self, now: float, gateways: Iterable[Figures]) -> None:
        """Take the counters as they stand."""
        total: dict[str, Buckets] = {}
        failed: dict[str, int] = {}
        for gateway in gateways:
            for each in gateway.failures:
                if each.code != _NO_FAULT:
                    failed[each.model] = failed.get(each.model, 0) + each.count
            for model, figures in gateway.models.items():
                buckets = total.setdefault(model, {})
                for bound, count in figures.first_token_s.cumulative().items():
                    buckets[bound] = buckets.get(bound, 0.0) + count
        self._readings.append(_Reading(now, total, failed))
        while len(self._readings) > 2 and self._readings[1].at < now - _WINDOW_S:
            self._readings.popleft()

    def quantiles(self, model: str) -> Quantiles:
        """Over the window, or since the gateways started if that is shorter."""
        if not self._readings:
            return Quantiles()
        newest = self._readings[-1].began.get(model, {})
        oldest = self._readings[0].began.get(model, {}) if len(self._readings) > 1 else {}
        grown = {bound: count - oldest.get(bound, 0.0) for bound, count in newest.items()}
        if any(count < 0 for count in grown.values()):
            # A gateway has started anew; its counters have, too.
            grown = newest
        return Quantiles(quantile(0.5, grown), quantile(0.99, grown))

    def failed(self, model: str) -> int:
        """Return how many answers ended with an error, over the same time."""
        if not self._readings:
            return 0
        newest = self._readings[-1].failed.get(model, 0)
        oldest = self._readings[0].failed.get(model, 0) if len(self._readings) > 1 else 0
        return newest - oldest if newest >= oldest else newest


def quantile(part: float, buckets: Mapping[float, float]) -> float | None:
    """Return the value below which that part of the observations lies, with those of a bucket
    spread evenly over it, as `histogram_quantile` of Prometheus has it; None without
    observations."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = part * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if bound == float("inf"):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, buckets[bound]
    return None
