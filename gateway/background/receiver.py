"""A host that webhooks are sent to: one that hangs holds up no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

_AT_ONCE: Final = 4


class Told(NamedTuple):
    """The outcome of one try: the status of the answer, 0 if there is none, and in words."""

    status: int
    word: str
    is_late: bool = False


class Receiver:
    """Sends to one host, some at a time; while it does not answer, one at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._asked = self._sending = 0
        self._hangs = False

    @property
    def is_idle(self) -> bool:
        """Return whether there is nothing to be remembered of it."""
        return not (self._asked or self._hangs)

    async def tell(self, send: Callable[[], Awaitable[Told]]) -> Told | None:
        """Return what came of it; None if it was not tried, as others see first whether the host
        answers again."""
        self._asked += 1
        try:
            return await self._tell(send)
        finally:
            self._asked -= 1

    async def _tell(self, send: Callable[[], Awaitable[Told]]) -> Told | None:
        if self._is_left():
            return None
        async with self._places:
            if self._is_left():
                return None
            self._sending += 1
            try:
                told = await send()
            finally:
                self._sending -= 1
        self._hangs = told.is_late
        return told

    def _is_left(self) -> bool:
        return self._hangs and self._sending > 0
