"""Requests that come at once, and what runs beside them."""

from __future__ import annotations

import asyncio

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
    await asyncio.wait_for(turnstile.through(), 1)
