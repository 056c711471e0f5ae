"""Requests that come in one moment begin in small groups, with a turn of the event loop between
two groups: what is running is not held up by how many come at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

#: To begin one takes up to half a millisecond.
AT_ONCE: Final = 16


class Turnstile:
    """Lets `AT_ONCE` requests through in a turn of the loop, in order of arrival."""

    def __init__(self) -> None:
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def through(self) -> None:
        """Return in this turn if few have come, else in a later one."""
        if self._passed == 0:
            asyncio.get_running_loop().call_soon(self._turn)
        if self._passed < AT_ONCE and not self._waiting:
            self._passed += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._passed += 1
        if self._waiting or self._passed:
            asyncio.get_running_loop().call_soon(self._turn)
