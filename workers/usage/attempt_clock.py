"""The times of one attempt, for the trace of its request."""

from __future__ import annotations

import time

from contract.messages import EngineTimes


class AttemptClock:
    """Notes when an engine got a job, first spoke, and ended, from when the attempt was opened."""

    __slots__ = ("_first", "_opened", "_submitted")

    def __init__(self) -> None:
        self._opened = time.monotonic()
        self._submitted: float | None = None
        self._first: float | None = None

    def us_since(self, moment: float) -> int:
        """Return how long before its opening a moment was."""
        return _us(self._opened - moment)

    def submit(self) -> None:
        """The engine gets the job."""
        self._submitted = time.monotonic()

    def speak(self) -> None:
        """The engine says something."""
        if self._first is None:
            self._first = time.monotonic()

    def end(self) -> EngineTimes | None:
        """Return the times, as the attempt ends now; None if its engine never got the job."""
        if self._submitted is None:
            return None
        first = None if self._first is None else _us(self._first - self._opened)
        return EngineTimes(
            _us(self._submitted - self._opened), first, _us(time.monotonic() - self._opened)
        )


def _us(seconds: float) -> int:
    return max(0, round(seconds * 1_000_000))
