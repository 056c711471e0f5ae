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
        self._timer: asyncio.TimerHandle | None = None

    def expect_within(self, seconds: float) -> None:
        self.relax()
        self._timer = self._loop.call_later(seconds, self._late, seconds)

    def came_on(self, seconds: float) -> None:
        """A piece of the body has come: expect the next within so long, if it is a long one."""
        if self.is_long and self._timer is not None:
            self.expect_within(seconds)

    def allow_long(self) -> None:
        self.is_long = True

    def relax(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
