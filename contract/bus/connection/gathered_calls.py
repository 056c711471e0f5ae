"""Calls that come while others are under way, sent together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

#: Larger batches would hold up the server, and the calls that wait for the first answer.
MOST_AT_ONCE: Final = 128
#: A server that has not answered by then may not have heard.
GATHERED_WITHIN_S: Final = 2.0
#: A round trip begins no sooner than this after the one before: each has a cost of its own. A
#: longer pause saves little, and first tokens wait for it.
APART_S: Final = 0.002


class GatheredCalls:
    """One round trip at a time, for all calls that have come until then. At rest a call goes out at
    once; under load round trips grow."""

    def __init__(self, send: Callable[[Sequence[Any]], Awaitable[list[Any]]]) -> None:
        """`send` answers for each call what came of it, or its error, in order."""
        self._send = send
        self._waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = -APART_S

    async def ask(self, call: Any) -> Any:
        """Return the answer to a call. Raises its error, that of its round trip, or `TimeoutError`.
        A call whose caller is cancelled is not sent if it was not yet."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                early_s = self._sent_at + APART_S - loop.time()
                if early_s > 0 and len(self._waiting) < MOST_AT_ONCE:
                    await asyncio.sleep(early_s)
                self._sent_at = loop.time()
                count = min(len(self._waiting), MOST_AT_ONCE)
                batch = [self._waiting.popleft() for _ in range(count)]
                if batch := [each for each in batch if not each[1].done()]:
                    await self._send_batch(batch)
        finally:
            self._sending = None

    async def _send_batch(self, batch: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        try:
            calls = [call for call, _ in batch]
            answers = await asyncio.wait_for(self._send(calls), GATHERED_WITHIN_S)
        except Exception as error:
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
