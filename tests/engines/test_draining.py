"""Draining async iterators: in order, ended once, stopped when they are not wanted any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from workers.engines.shared.draining import Drains

Ends = list[tuple[str, Exception | None]]


@pytest.fixture
def ends() -> Ends:
    return []


@pytest.fixture
async def drains(ends: Ends) -> AsyncIterator[Drains]:
    drains = Drains(lambda job_id, error: ends.append((job_id, error)))
    yield drains
    await drains.close()


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number
        await asyncio.sleep(0)


class Growing:
    """Hands out itself again and again, as TensorRT-LLM's results do."""

    def __init__(self, steps: int) -> None:
        self.length = 0
        self.steps = steps

    def __aiter__(self) -> Growing:
        return self

    async def __anext__(self) -> Growing:
        if self.length == self.steps:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        self.length += 1
        return self


async def until(filled: list[Any]) -> None:
    """Return once the list has something in it."""
    async with asyncio.timeout(5):
        while not filled:  # noqa: ASYNC110 - a list has no event for it
            await asyncio.sleep(0)


async def test_each_item_is_taken_before_the_next_one_is_asked_for(
    drains: Drains, ends: Ends
) -> None:
    seen: list[int] = []
    drains.start("j", Growing(4), lambda growing: seen.append(growing.length))
    await until(ends)
    assert seen == [1, 2, 3, 4]
    assert ends == [("j", None)]


async def test_a_job_ends_when_all_its_iterators_have(drains: Drains, ends: Ends) -> None:
    taken: list[int] = []
    drains.start("j", count(2), taken.append)
    drains.start("j", count(50), taken.append)
    await until(ends)
    assert len(taken) == 52
    assert ends == [("j", None)]


async def test_the_first_failure_ends_the_job_and_stops_its_other_iterators(
    drains: Drains, ends: Ends
) -> None:
    stopped = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 0
                await asyncio.sleep(0)
        finally:
            stopped.set()

    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    drains.start("j", endless(), lambda _: None)
    drains.start("j", failing(), lambda _: None)
    async with asyncio.timeout(5):
        await stopped.wait()
    ((job_id, error),) = ends
    assert job_id == "j"
    assert str(error) == "broken"


async def test_a_stopped_job_is_closed_and_never_ends(drains: Drains, ends: Ends) -> None:
    closed = asyncio.Event()

    async def waiting() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(1000)
        finally:
            closed.set()

    taken: list[int] = []
    drains.start("j", waiting(), taken.append)
    await until(taken)
    drains.stop("j")
    async with asyncio.timeout(5):
        await closed.wait()
    drains.stop("j")
    await drains.close()
    assert ends == []


async def test_what_taking_raises_ends_the_job_too(drains: Drains, ends: Ends) -> None:
    def refuse(_: int) -> None:
        raise RuntimeError("no")

    drains.start("j", count(3), refuse)
    await until(ends)
    assert str(ends[0][1]) == "no"
