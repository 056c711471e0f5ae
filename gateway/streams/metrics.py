"""Counters of this process: of requests, and of each model's answers."""

from __future__ import annotations

import time
from typing import Final

from contract.figures import (
    Failures,
    Figures,
    KeyFigures,
    ModelFigures,
    Moves,
    Requests,
    SpanFigures,
)
from contract.messages import Done

#: A label's values come from the configuration only, so that clients cannot make new series.
OTHER: Final = "other"
#: So many API keys have figures of their own; those of the others are added up.
MOST_KEYS: Final = 100


class Metrics:
    """Counted since the process started. The event loop counts, the heartbeat's thread reads."""

    def __init__(self) -> None:
        self._started_unix_s = time.time()
        self._models: dict[str, ModelFigures] = {}
        self._requests: dict[tuple[str, int, str], int] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._keys: dict[str, KeyFigures] = {}
        self._moves: dict[tuple[str, str, str], int] = {}
        self._unreadable_frames = 0
        self._ignoring = 0
        #: Counted by what sends them; None if there are no traces.
        self.spans: SpanFigures | None = None

    def of(self, model: str) -> ModelFigures:
        """Return the figures of a model that is in the configuration."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = ModelFigures()
        return found

    def count_request(self, route: str, status: int, model: str, key_id: str) -> None:
        key = (route, status, model or OTHER)
        self._requests[key] = self._requests.get(key, 0) + 1
        if key_id:
            self._of_key(key_id).requests += 1

    def count_answer(self, model: str, key_id: str, done: Done, latency_s: float) -> None:
        """Count an answer that has come to a good end."""
        figures = self.of(model)
        figures.latency_s.observe(latency_s)
        figures.prompt_tokens.observe(done.prompt_tokens)
        figures.completion_tokens.observe(done.completion_tokens)
        figures.cached_tokens += done.cached_tokens
        for reason in done.finish_reasons:
            figures.finished[reason] = figures.finished.get(reason, 0) + 1
        if key_id:
            key = self._of_key(key_id)
            key.prompt_tokens += done.prompt_tokens
            key.completion_tokens += done.completion_tokens

    def count_failure(self, model: str, code: str) -> None:
        key = (model or OTHER, code)
        self._failures[key] = self._failures.get(key, 0) + 1

    def count_move(self, model: str, to: str, reason: str) -> None:
        """A request for a model goes to another one."""
        key = (model, to, reason)
        self._moves[key] = self._moves.get(key, 0) + 1

    def count_unreadable_frame(self) -> None:
        self._unreadable_frames += 1

    def count_ignoring(self) -> None:
        """A request with fields that have no effect."""
        self._ignoring += 1

    def _of_key(self, key_id: str) -> KeyFigures:
        found = self._keys.get(key_id)
        if found is None:
            name = key_id if len(self._keys) < MOST_KEYS else OTHER
            found = self._keys.setdefault(name, KeyFigures())
        return found

    def figures(self) -> Figures:
        """As they stand."""
        return Figures(
            self._started_unix_s,
            self._models.copy(),
            [Requests(*key, count) for key, count in self._requests.copy().items()],
            [Failures(*key, count) for key, count in self._failures.copy().items()],
            self._unreadable_frames,
            self._ignoring,
            self._keys.copy(),
            [Moves(*key, count) for key, count in self._moves.copy().items()],
            self.spans,
        )
