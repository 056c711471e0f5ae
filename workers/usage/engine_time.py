"""The time of an engine, shared among the jobs that it works on."""

from __future__ import annotations

import time
from collections.abc import Callable


class EngineTime:
    """Shares time equally among jobs that run at once: with n of them, each second is 1/n for each.
    So what all jobs take together is the time in which any ran. O(1) for each job, as
    all that run at a time gain the same: a job takes the growth of one integral of 1/n."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running = 0
        self._since = clock()
        #: The time that a job would have taken that has run all the time, in seconds.
        self._share_s = 0.0

    def begin(self) -> float:
        """Note that a job begins. Returns a mark, with which its time is asked for."""
        self._advance()
        self._running += 1
        return self._share_s

    def end(self, mark: float) -> float:
        """Note that a job ends. Returns the time that it took, in seconds."""
        self._advance()
        self._running -= 1
        return self._share_s - mark

    def so_far(self, mark: float) -> float:
        """Return the time that a running job has taken, in seconds."""
        self._advance()
        return self._share_s - mark

    def _advance(self) -> None:
        now = self._clock()
        if self._running:
            self._share_s += (now - self._since) / self._running
        self._since = now
