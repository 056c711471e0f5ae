"""Asking Redis while it may be away for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.exceptions import RedisError, ResponseError

from gateway.http.errors import ApiError
from gateway.streams.link import Link

#: Redis is back within a second when it restarts, later with much data or on a busy host; that long
#: a request waits for it.
PATIENCE_S: Final = 5.0
RETRY_S: Final = 0.05
_SILENT: Final = "the queue does not answer"
T = TypeVar("T")


class BackendDown(ApiError):
    """Redis does not answer, or by `error` alone."""

    def __init__(self, error: BaseException | None = None) -> None:
        answers = isinstance(error, ResponseError)
        message = "the queue takes nothing in: `./ew status` says why" if answers else _SILENT
        super().__init__("backend_down", message)


class PatientLink:
    """Asks again and again for a while if Redis does not answer. When very many ask at once, each
    has its turn, `at_once` of them at a time, in order of arrival: that all are busy does not mean
    that Redis is away."""

    def __init__(self, link: Link, at_once: int) -> None:
        self._link = link
        self._turns = asyncio.Semaphore(at_once)

    async def ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` does. Raises `BackendDown`, and what `ask` raises but `RedisError` and
        `OSError`."""
        async with self._turns:
            if self._link.down_for_s() >= PATIENCE_S:
                raise BackendDown
            last: BaseException | None = None
            deadline = time.monotonic() + PATIENCE_S
            while (left_s := deadline - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(left_s):
                        return await ask()
                except (RedisError, OSError) as error:
                    self._link.failed(error)
                    last = error
                await asyncio.sleep(RETRY_S)
        raise BackendDown(last)
