"""Waits for tasks, and ends them for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final

_AGAIN_S: Final = 0.2


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return once all have ended, however they did.

    Once is not enough: `asyncio.wait_for` of Python 3.11, through which redis-py sends, loses a
    cancellation that comes just when it is done.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)


async def first_of(*waits: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> int | None:
    """Return which of several waits ended first; the others are cancelled. None if time was up."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    ended = [i for i, task in enumerate(tasks) if task.done()]
    for task in tasks:
        task.cancel()
    return ended[0] if ended else None
