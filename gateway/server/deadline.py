"""When the rest of a request's head or body must have come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """One of a connection; `late` is called with its seconds when it has passed. A body that
    `is_long` may take longer, as long as it comes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[float], None]) -> None:
        self.is_long = False
        self._loop = loop
        self._late = late
        self._seconds = 0.0
        #: None while nothing is expected.
        self._due: float | None = None
        #: When the timer looks whether it is due. Most deadlines are moved on before, or relaxed:
        #: that costs no timer.
        self._looks_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def expect_within(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        self._seconds, self._due = seconds, due
        if self._timer is None or self._looks_at > due:
            self._look_at(due)

    def came_on(self, seconds: float) -> None:
        """A piece of the body has come: expect the next within so long, if it is a long one."""
        if self.is_long and self._due is not None:
            self.expect_within(seconds)

    def allow_long(self) -> None:
        self.is_long = True

    def relax(self) -> None:
        self._due = None

    def close(self) -> None:
        """Expect nothing any more: the connection is gone, and is known no longer."""
        self._due, self._late = None, _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._due > self._loop.time():
            self._look_at(self._due)
        else:
            self._due = None
            self._late(self._seconds)


def _nothing(seconds: float) -> None:
    """Nobody is to be told."""
