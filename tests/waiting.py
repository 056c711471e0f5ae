"""Waits for conditions, with a deadline: no test sleeps and hopes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, Final

#: How many times longer than ew promises something may take where other tests run beside it.
BUSY: Final = 10


def eventually(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Return the first true answer of `condition`; fail the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true in {timeout_s} s"
        time.sleep(0.01)
    return answer


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The same while the event loop turns; `condition` may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{condition} did not come true in {timeout_s} s"
        await asyncio.sleep(0.01)
