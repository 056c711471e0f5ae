"""Very many clients that come back at once for the answers of a gateway that is dead."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from contract.bus.claims import Attempt
from contract.messages import Envelope
from contract.process.collector import GC_THRESHOLDS
from contract.wire import decode_frame, encode_frame
from gateway.streams.replays import _ENVELOPES_PER_READ
from gateway.streams.reply_group import portions
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker, blocked_clients, delta
from tests.gateway.sse_client import Event, collect, have, reading, streaming, texts_of

STREAM = "/api/v1/inference/stream"


def ask(prompt: str) -> dict[str, str]:
    return {"modelId": "m", "prompt": prompt}


async def test_one_reader_serves_all_who_come_back_for_a_dead_gateways_answers(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    first = new_gateway(own_valkey.url)
    second = new_gateway(own_valkey.url, first.key)
    keys = [f"k{number}" for number in range(100)]
    async with ScriptedWorker(own_valkey.url, "m") as worker:
        worker.slots = len(keys)
        async with client_of(first, connections=len(keys)) as doomed:
            asked = [reading(doomed, STREAM, ask(key), idempotency_key=key) for key in keys]
            async with AsyncExitStack() as stack:
                lost = [await stack.enter_async_context(each) for each in asked]
                attempts = [await worker.start() for _ in keys]
                for attempt in attempts:
                    await worker.delta(attempt, "a", "b")
                await have(lost, "ab")
                first.kill()
                for answer in lost:
                    with pytest.raises(httpx.TransportError):
                        await answer.whole()
        before = await blocked_clients(worker.db)
        async with client_of(second, connections=len(keys)) as client:
            back = [
                asyncio.create_task(
                    collect(client, STREAM, ask(key), idempotency_key=key, last_event_id="0")
                )
                for key in keys
            ]
            again = asyncio.create_task(collect(client, STREAM, ask("k7"), idempotency_key="k7"))
            for attempt in attempts:
                await worker.delta(attempt, "c")
            assert await blocked_clients(worker.db) <= before + 1
            for attempt in attempts:
                await worker.done(attempt)
            assert [texts_of(await each) for each in back] == ["bc"] * len(keys)
            assert texts_of(await again) == "abc"


#: One frame at a time; and no wait is too short to be told of.
SLOW_AND_TOLD = {
    "gateway.streams.replays._MOST_FRAMES_PER_READ": 0,
    "gateway.streams.replays._TELL_AFTER_S": 0,
}


class Back:
    """A client that comes back for the rest of its answer, of which it has the first event."""

    def __init__(self, key: str, went_on: list[str]) -> None:
        self.key = key
        self.events: list[Event] = []
        self.hears = asyncio.Event()
        self._went_on = went_on

    async def read(self, client: httpx.AsyncClient) -> None:
        resume = {"idempotency_key": self.key, "last_event_id": "0"}
        async with streaming(client, STREAM, ask(self.key), **resume) as (_, events):
            async for event in events:
                self.hears.set()
                self.events.append(event)
                if event.name == "" and self.key not in self._went_on:
                    self._went_on.append(self.key)


async def cut(
    gateway: Gateway, worker: ScriptedWorker, keys: list[str], between: int = 0
) -> dict[str, Attempt]:
    """Answers of a gateway that is killed. Each has an `a`, and its key as the rest; the first has
    that last, after many frames of others."""
    async with (
        client_of(gateway, connections=len(keys)) as doomed,
        AsyncExitStack() as stack,
    ):
        lost, attempts = [], {}
        for key in keys:
            asked = reading(doomed, STREAM, ask(key), idempotency_key=key)
            lost.append(await stack.enter_async_context(asked))
            attempts[key] = await worker.start()
            await worker.delta(attempts[key], "a")
        await have(lost, "a")
        for key in keys[1:]:
            await worker.delta(attempts[key], key)
        other = Envelope("other", 1, 0, delta("x"))
        await worker.send(attempts[keys[0]], other, times=between)
        await worker.delta(attempts[keys[0]], keys[0])
        gateway.kill()
    return attempts


async def test_who_comes_back_first_goes_on_first_and_who_waits_is_told(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    """The first's text is the last in the reply stream, so that only the order of arrival can put
    it before the others."""
    first = new_gateway(own_valkey.url)
    second = new_gateway(own_valkey.url, first.key, constants=SLOW_AND_TOLD)
    keys, went_on = ["early", "b", "c", "d"], list[str]()
    back = [Back(key, went_on) for key in keys]
    async with ScriptedWorker(own_valkey.url, "m") as worker:
        attempts = await cut(first, worker, keys, between=1500)
        async with client_of(second, connections=len(keys)) as client:
            coming = []
            for each in back:
                coming.append(asyncio.create_task(each.read(client)))
                await asyncio.wait_for(each.hears.wait(), 10)
            for attempt in attempts.values():
                await worker.done(attempt)
            await asyncio.gather(*coming)
    assert [texts_of(each.events) for each in back] == keys
    assert went_on[0] == "early"
    for each in back[1:]:
        status = next(event.json for event in each.events if event.name == "status")
        assert (status["stage"], status["position"] > 0) == ("resuming", True)


def test_what_is_handed_on_to_many_comes_in_portions_that_split_no_answer() -> None:
    frames = [[Envelope(f"j{job}", 1, seq, delta("x")) for job in range(300)] for seq in range(3)]
    handed = list(portions(envelope for frame in frames for envelope in frame))
    assert sum(map(len, handed)) == 900
    assert max(map(len, handed)) < 300
    for portion in handed:
        assert set(Counter(job_id for job_id, *_ in portion).values()) == {3}


def test_what_is_read_at_once_makes_the_collector_look_at_nothing_old() -> None:
    envelopes = [Envelope(f"j{job}", 1, 0, delta("x")) for job in range(_ENVELOPES_PER_READ)]
    frame = encode_frame(envelopes)
    before = gc.get_threshold()
    generations: list[int] = []
    gc.collect()
    gc.callbacks.append(lambda phase, info: generations.append(info["generation"]))
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        for _ in range(20):
            decode_frame(frame)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.pop()
    assert max(generations, default=0) == 0
