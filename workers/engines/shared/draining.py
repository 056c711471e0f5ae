"""Answers of libraries that only offer an async iterator: one task drains each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import TypeVar

T = TypeVar("T")


class Drains:
    """The iterators being drained; a job may have several.

    `ended` is called once per job: with None when all its iterators have ended, or with what
    the first one to fail raised, after the others were stopped. Never after `stop`.
    """

    def __init__(self, ended: Callable[[str, Exception | None], None]) -> None:
        self._ended = ended
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}

    def start(self, job_id: str, items: AsyncIterable[T], take: Callable[[T], None]) -> None:
        """Give each item to `take` as it comes, before the next one is asked for: libraries
        may hand out the same object again, changed."""
        task = asyncio.create_task(self._drain(job_id, items, take))
        self._tasks.setdefault(job_id, set()).add(task)

    def stop(self, job_id: str) -> None:
        """Stop draining a job; async generators are closed. One that has ended is no error."""
        for task in self._tasks.pop(job_id, ()):
            task.cancel()

    async def close(self) -> None:
        """Stop all, and return when they have stopped."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        for job_id in list(self._tasks):
            self.stop(job_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, job_id: str, items: AsyncIterable[T], take: Callable[[T], None]) -> None:
        error: Exception | None = None
        try:
            async for item in items:
                take(item)
        except Exception as raised:
            error = raised
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()
        self._settle(job_id, error)

    def _settle(self, job_id: str, error: Exception | None) -> None:
        tasks = self._tasks.get(job_id)
        task = asyncio.current_task()
        if tasks is None or task is None or task not in tasks:
            return
        tasks.discard(task)
        if error is not None:
            self.stop(job_id)
        if not tasks or error is not None:
            self._tasks.pop(job_id, None)
            self._ended(job_id, error)
