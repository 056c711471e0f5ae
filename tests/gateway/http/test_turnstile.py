"""Requests that come at once, and what runs beside them."""

from __future__ import annotations

import asyncio

import pytest

from gateway.http.turnstile import AT_ONCE, Turnstile


async def test_many_at_once_leave_turns_to_others_and_keep_their_order() -> None:
    turnstile, came = Turnstile(), list[int | str]()

    async def request(number: int) -> None:
        await turnstile.through()
        came.append(number)

    async def beside() -> None:
        while len(came) < 5 * AT_ONCE:
            came.append("beside")
            await asyncio.sleep(0)

    await asyncio.gather(*(request(number) for number in range(5 * AT_ONCE)), beside())
    numbers = [each for each in came if each != "beside"]
    assert numbers == list(range(5 * AT_ONCE))
    groups = " ".join("." if each == "beside" else "r" for each in came).split(".")
    assert max(group.count("r") for group in groups) <= 2 * AT_ONCE


async def test_who_leaves_while_waiting_takes_nobodys_turn() -> None:
    turnstile = Turnstile()
    waiting = [asyncio.create_task(turnstile.through()) for _ in range(3 * AT_ONCE)]
    await asyncio.sleep(0)
    for each in waiting[AT_ONCE:]:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(turnstile.through(), 20)


async def test_tokens_make_way_for_requests_that_come_one_after_the_other() -> None:
    turnstile, came = Turnstile(), list[int]()

    async def come(number: int) -> None:
        await turnstile.through()
        came.append(number)
        if number:
            # As the next connection is accepted, and its request read.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await come(number - 1)

    coming = asyncio.create_task(come(20))
    await asyncio.sleep(0)
    await turnstile.rest(1.0)
    assert len(came) == 21
    await coming


async def test_tokens_do_not_make_way_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.turnstile._LONGEST_REST_S", 0.001)
    turnstile, is_enough = Turnstile(), asyncio.Event()

    async def come() -> None:
        while not is_enough.is_set():
            await turnstile.through()
            await asyncio.sleep(0)

    coming = asyncio.create_task(come())
    await asyncio.sleep(0)
    await asyncio.wait_for(turnstile.rest(1.0), 20)
    is_enough.set()
    await coming


async def test_who_has_worked_little_makes_way_for_as_little() -> None:
    turnstile = Turnstile()

    async def come() -> None:
        while True:
            await turnstile.through()
            await asyncio.sleep(0)

    coming = asyncio.create_task(come())
    await asyncio.sleep(0)
    took_s, before = 0.0, turnstile.came
    await turnstile.rest(took_s)
    assert turnstile.came == before
    coming.cancel()


async def test_where_no_request_has_come_since_nothing_waits_for_a_turn() -> None:
    turnstile = Turnstile()
    await turnstile.through()
    await turnstile.rest(1.0)
    resting = turnstile.rest(1.0)
    with pytest.raises(StopIteration):
        resting.send(None)
