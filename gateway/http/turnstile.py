"""Requests that come in one moment begin in small groups, with a turn of the event loop between
two groups: what is running is not held up by how many come at once. But for some milliseconds it
makes way for them: the tokens that gather meanwhile cost less together than one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

#: To begin one takes up to half a millisecond.
AT_ONCE: Final = 16
#: A connection is accepted in one turn, its request read in the next, and begun in another.
_QUIET_TURNS: Final = 3
#: While requests come, one after the other, tokens have a fifth of the time; and what waits for
#: the turnstile to rest waits no longer than this.
_REST_PER_WORK: Final = 4
_LONGEST_REST_S: Final = 0.005


class Turnstile:
    """Lets `AT_ONCE` requests through in a turn of the loop, in order of arrival, and tells when no
    more come."""

    def __init__(self) -> None:
        self._passed = 0
        #: How many have come.
        self.came = 0
        #: How many had when it rested last.
        self._seen = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def through(self) -> None:
        """Return in this turn if few have come, else in a later one."""
        self.came += 1
        if self._passed == 0:
            asyncio.get_running_loop().call_soon(self._turn)
        if self._passed < AT_ONCE and not self._waiting:
            self._passed += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    async def rest(self, worked_s: float) -> None:
        """Return once no request has come for some turns; after some milliseconds in any case, or
        fewer if what makes way has not worked for long."""
        if self.came == self._seen:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + min(_LONGEST_REST_S, _REST_PER_WORK * worked_s)
        quiet_turns = 0
        while quiet_turns < _QUIET_TURNS and loop.time() < until:
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if self._seen == self.came else 0
            self._seen = self.came

    def _turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._passed += 1
        if self._waiting or self._passed:
            asyncio.get_running_loop().call_soon(self._turn)
