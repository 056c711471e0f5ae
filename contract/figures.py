"""Counters of gateway processes, as their heartbeats carry them: the supervisor reads them, and
any process that serves /metrics writes them down for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import ClassVar

import msgspec


class Histogram(msgspec.Struct, array_like=True):
    """Counts by bucket: `counts[i]` are at most `bounds[i]`, and the last one above them all."""

    bounds: ClassVar[tuple[float, ...]]
    counts: list[int] = []
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> dict[float, int]:
        """Return how many were at most so much, which is the key; up to infinity."""
        return dict(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=False))


class Waits(Histogram):
    """A histogram of the waits of clients, in seconds."""

    bounds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Gaps(Histogram):
    """Between two tokens, in seconds."""

    bounds = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1)


class Latencies(Histogram):
    """From a request to the end of its answer, in seconds."""

    bounds = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 240, 480, 960, 1920, 7680)


class Lengths(Histogram):
    """Lengths of prompts and answers, in tokens."""

    bounds = (*(step * 10**power for power in range(5) for step in (1, 2, 5)), 100_000)


class ModelFigures(msgspec.Struct, array_like=True):
    """The answers of one model. All but `open` only grow while the process lives. The fields after
    `token_s` are of answers that came to a good end."""

    open: int = 0
    tokens: int = 0
    queue_s: Waits = msgspec.field(default_factory=Waits)
    first_token_s: Waits = msgspec.field(default_factory=Waits)
    token_s: Gaps = msgspec.field(default_factory=Gaps)
    latency_s: Latencies = msgspec.field(default_factory=Latencies)
    prompt_tokens: Lengths = msgspec.field(default_factory=Lengths)
    completion_tokens: Lengths = msgspec.field(default_factory=Lengths)
    cached_tokens: int = 0
    #: How many choices ended so, by finish reason.
    finished: dict[str, int] = {}


class KeyFigures(msgspec.Struct, array_like=True):
    """The requests of one API key, and the tokens of its answers. They only grow."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


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


class Moves(msgspec.Struct, array_like=True, frozen=True):
    """How many requests for a model another one was to do, and why."""

    model: str
    to: str
    reason: str
    count: int


class SpanFigures(msgspec.Struct, array_like=True):
    """The fates of spans: a collector took them, or they were dropped, as too many waited for it
    (`full`) or as it refused them. They only grow."""

    sent: int = 0
    full: int = 0
    refused: int = 0


class Figures(msgspec.Struct):
    """All that one process has counted."""

    started_unix_s: float = 0.0
    models: dict[str, ModelFigures] = {}
    requests: list[Requests] = []
    failures: list[Failures] = []
    unreadable_frames: int = 0
    #: Requests with fields that had no effect.
    ignoring: int = 0
    #: By the id of the API key.
    keys: dict[str, KeyFigures] = {}
    moves: list[Moves] = []
    #: None if there are no traces.
    spans: SpanFigures | None = None
