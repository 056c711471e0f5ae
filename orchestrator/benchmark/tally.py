"""The counts of a sender process, and of several together."""

from __future__ import annotations

import math
import time
from typing import Final

import msgspec

#: Times are kept to 1 %.
_STEP: Final = math.log(1.01)
_MOST_MESSAGES: Final = 20


class TimeHistogram(msgspec.Struct):
    """Times, counted by their logarithm: small however many there are, and exact to 1 %."""

    counts: dict[int, int] = msgspec.field(default_factory=dict)

    def add(self, seconds: float) -> None:
        bucket = round(math.log(max(seconds, 1e-6)) / _STEP)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, other: TimeHistogram) -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def quantile_ms(self, share: float) -> float | None:
        """Return the time that so large a share does not exceed, in ms; None if there is none."""
        wanted = math.ceil(share * sum(self.counts.values()))
        for bucket in sorted(self.counts):
            wanted -= self.counts[bucket]
            if wanted <= 0:
                return 1000 * math.exp(bucket * _STEP)
        return None


class Tally(msgspec.Struct):
    """Counts of one run. `gap` is the time between two arrivals of tokens on one stream, `late` by
    how much the sender was behind its own clock. `told_tokens` are those that servers counted
    (`usage`), `told_events` the events with text of the same answers."""

    ttft: TimeHistogram = msgspec.field(default_factory=TimeHistogram)
    gap: TimeHistogram = msgspec.field(default_factory=TimeHistogram)
    latency: TimeHistogram = msgspec.field(default_factory=TimeHistogram)
    late: TimeHistogram = msgspec.field(default_factory=TimeHistogram)
    events_by_second: list[int] = msgspec.field(default_factory=list)
    good: int = 0
    failed: int = 0
    cut: int = 0
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    told_tokens: int = 0
    told_events: int = 0
    began: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0
    #: CPU of the busiest process, as a share of one core.
    busiest: float = 0.0

    def begin(self) -> None:
        """Start the clock."""
        self.began = time.monotonic()
        self.cpu_s = time.process_time()

    def end(self) -> None:
        self.seconds = time.monotonic() - self.began
        self.cpu_s = time.process_time() - self.cpu_s
        self.busiest = self.cpu_s / self.seconds

    def count(self, now: float, events: int) -> None:
        """Count events with text that came now."""
        second = int(now - self.began)
        by_second = self.events_by_second
        while len(by_second) <= second:
            by_second.append(0)
        by_second[second] += events

    def fail(self, message: str) -> None:
        self.failed += 1
        if message in self.errors or len(self.errors) < _MOST_MESSAGES:
            self.errors[message] = self.errors.get(message, 0) + 1

    def merge(self, other: Tally) -> None:
        """Add what another process counted at the same time."""
        for name in ("ttft", "gap", "latency", "late"):
            getattr(self, name).merge(getattr(other, name))
        for name in ("good", "failed", "cut", "told_tokens", "told_events", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for message, count in other.errors.items():
            self.errors[message] = self.errors.get(message, 0) + count
        missing = len(other.events_by_second) - len(self.events_by_second)
        self.events_by_second += [0] * missing
        for second, events in enumerate(other.events_by_second):
            self.events_by_second[second] += events
        self.seconds = max(self.seconds, other.seconds)
        self.busiest = max(self.busiest, other.busiest)

    @property
    def tokens_per_event(self) -> float:
        """1 where servers did not say how many tokens they made."""
        return self.told_tokens / self.told_events if self.told_events and self.told_tokens else 1.0
