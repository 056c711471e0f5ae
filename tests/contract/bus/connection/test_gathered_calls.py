"""Calls that share round trips, and a server that is slow, fails, or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from contract.bus.connection import gathered_calls
from contract.bus.connection.gathered_calls import MOST_AT_ONCE, GatheredCalls


class Server:
    """Answers a call by itself, in capitals, once it may; `bad` is an error."""

    def __init__(self) -> None:
        self.round_trips: list[list[str]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_broken = False

    async def send(self, calls: Sequence[Any]) -> list[Any]:
        self.round_trips.append([*calls])
        await self.answers.wait()
        if self.is_broken:
            raise OSError("gone")
        return [ValueError(call) if call == "bad" else call.upper() for call in calls]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def gathered(server: Server) -> GatheredCalls:
    return GatheredCalls(server.send)


async def asked(gathered: GatheredCalls, *calls: str) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(gathered.ask(call)) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_one_is_under_way_shares_the_next_round_trip(
    server: Server, gathered: GatheredCalls
) -> None:
    server.answers.clear()
    first = await asked(gathered, "a")
    others = await asked(gathered, "b", "bad", "c")
    assert server.round_trips == [["a"]]
    server.answers.set()
    found = await asyncio.gather(*first, *others, return_exceptions=True)
    assert server.round_trips == [["a"], ["b", "bad", "c"]]
    assert [found[0], found[1], found[3]] == ["A", "B", "C"]
    assert isinstance(found[2], ValueError)


async def test_under_load_round_trips_wait_for_more_calls_and_at_rest_none_does(
    server: Server, gathered: GatheredCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_calls, "APART_S", 0.5)
    began = asyncio.get_running_loop().time()
    (first,) = await asked(gathered, "a")
    assert await first == "A"
    assert asyncio.get_running_loop().time() - began < 0.5
    second = await asked(gathered, "b")
    third = await asked(gathered, "c")
    assert server.round_trips == [["a"]]
    await asyncio.gather(*second, *third)
    assert server.round_trips == [["a"], ["b", "c"]]
    assert asyncio.get_running_loop().time() - began >= 0.5


async def test_round_trips_are_bounded_and_in_order(
    server: Server, gathered: GatheredCalls
) -> None:
    calls = [str(number) for number in range(2 * MOST_AT_ONCE + 1)]
    assert await asyncio.gather(*await asked(gathered, *calls)) == calls
    assert [call for trip in server.round_trips for call in trip] == calls
    assert max(map(len, server.round_trips)) <= MOST_AT_ONCE


async def test_a_call_that_nobody_waits_for_any_more_is_not_sent(
    server: Server, gathered: GatheredCalls
) -> None:
    server.answers.clear()
    (first,) = await asked(gathered, "a")
    gone, other = await asked(gathered, "b", "c")
    gone.cancel()
    await asyncio.sleep(0)
    server.answers.set()
    assert await asyncio.gather(first, other) == ["A", "C"]
    assert server.round_trips == [["a"], ["c"]]


async def test_an_error_is_told_to_all_of_its_round_trip_and_to_no_other(
    server: Server, gathered: GatheredCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_calls, "GATHERED_WITHIN_S", 0.05)
    server.is_broken = True
    broken = await asyncio.gather(*await asked(gathered, "a", "b"), return_exceptions=True)
    assert [type(error) for error in broken] == [OSError, OSError]
    server.is_broken = False
    server.answers.clear()
    with pytest.raises(TimeoutError):
        await gathered.ask("c")
    server.answers.set()
    assert await gathered.ask("d") == "D"
