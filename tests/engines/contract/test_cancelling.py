"""Answers that are not wanted any more."""

from __future__ import annotations

import asyncio
import time

from tests.engines.contract.engines import SLOTS
from tests.engines.contract.harness import Client
from tests.engines.contract.questions import COUNT
from tests.waiting import BUSY

#: As long as the context allows, and more than any test waits for.
ENDLESS = {"ignore_eos": True, "max_tokens": 100_000}


async def test_cancelling_frees_the_engine_within_two_seconds(client: Client) -> None:
    running = [await client.put(f"{COUNT} {i}", **ENDLESS) for i in range(SLOTS)]
    await asyncio.gather(*(answer.speaks() for answer in running))
    waiting = await client.put(COUNT, max_tokens=1)
    await client.cancel(running[0])
    before = time.monotonic()
    await waiting.ended()
    assert time.monotonic() - before < 2 * BUSY
    assert waiting.done.completion_tokens == 1
    assert [answer.end for answer in running] == [None] * SLOTS
    assert await client.state(running[0]) == "cancelled"


async def test_a_cancelled_answer_says_nothing_more(client: Client) -> None:
    answer = await client.put(COUNT, **ENDLESS)
    await answer.speaks()
    await client.cancel(answer)
    await (await client.put(COUNT, max_tokens=20)).ended()
    said = len(answer.deltas)
    await (await client.put(COUNT, max_tokens=20)).ended()
    assert len(answer.deltas) == said
    assert answer.end is None
