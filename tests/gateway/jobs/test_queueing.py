"""Jobs that cannot be put, wait too long, or are no longer wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from contract.messages import State
from gateway.jobs.queue_memory import QueueMemory
from tests.conftest import ValkeyServer
from tests.gateway.conftest import LOOK_OFTEN, Gateway, served, stays_open
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect, reading, streaming
from tests.waiting import until

INFER = "/api/v1/inference"
STREAM = "/api/v1/inference/stream"
ASK = {"modelId": "m", "prompt": "x"}
SHORT = {
    "queue_timeout_s": 0.6,
    "first_token_timeout_s": 0.6,
    "token_gap_timeout_s": 0.6,
    "total_timeout_s": 3.0,
    "max_waiting": 3,
}


async def test_a_model_that_is_not_started_is_refused_with_the_command_that_starts_it(
    client: httpx.AsyncClient, model: str
) -> None:
    response = await client.post(INFER, json={"modelId": model, "prompt": "x"})
    assert response.status_code == 503
    body = response.json()
    assert (body["code"], body["retryable"]) == ("model_not_started", True)
    assert f"./ew start {model}" in body["message"]
    assert int(response.headers["retry-after"]) > 0


async def test_a_model_that_is_starting_says_so(
    client: httpx.AsyncClient, redis_url: str, model: str
) -> None:
    worker = ScriptedWorker(redis_url, model)
    worker.state, worker.stage = State.STARTING, "reading weights"
    async with worker:
        deadline = time.monotonic() + 5
        while True:
            response = await client.post(INFER, json={"modelId": model, "prompt": "x"})
            assert response.status_code == 503
            if response.json()["code"] == "model_starting":
                assert "is starting: reading weights; ask" in response.json()["message"]
                ready = await client.get("/health/ready")
                assert ready.status_code == 503
                assert "no model is ready: reading weights" in ready.json()["reasons"]
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@pytest.fixture
def impatient(new_gateway: Callable[..., Gateway], own_valkey: object) -> Gateway:
    """A gateway with short timeouts and a short queue, and a Valkey of its own."""
    return new_gateway(own_valkey.url, limits=SHORT, constants=LOOK_OFTEN)  # type: ignore[attr-defined]


async def test_a_full_queue_refuses_at_once(
    new_gateway: Callable[..., Gateway], own_valkey: ValkeyServer
) -> None:
    gateway = new_gateway(own_valkey.url, limits={"max_waiting": 3, "queue_timeout_s": 60})
    async with served(gateway) as (worker, client):
        await worker.take_none()
        of_batch = {**ASK, "priorityClass": "batch"}
        asking = [asyncio.create_task(client.post(INFER, json=of_batch))]
        await worker.wait_for_waiting(1)
        # Half of the queue is for others.
        assert (await client.post(INFER, json=of_batch)).json()["code"] == "queue_full"
        asking += [asyncio.create_task(client.post(INFER, json=ASK)) for _ in range(2)]
        await worker.wait_for_waiting(3)
        took_s = []
        for _ in range(5):
            began = time.monotonic()
            response = await client.post(INFER, json=ASK)
            took_s.append(time.monotonic() - began)
            assert (response.status_code, response.json()["code"]) == (503, "queue_full")
            assert "retry-after" in response.headers
        assert min(took_s) < 1
        worker.takes = True
        for _ in asking:
            await worker.answer("a")
        await asyncio.gather(*asking)


async def test_each_wait_has_its_own_timeout_and_ends_the_job(impatient: Gateway) -> None:
    async with served(impatient) as (worker, client):
        # In the queue: begun, but never said to be started.
        asking = asyncio.create_task(client.post(INFER, json=ASK))
        attempt = await worker.next()
        response = await asking
        assert (response.status_code, response.json()["code"]) == (504, "queue_timeout")
        await worker.wait_for_cancellation(attempt.job.id, 2)

        asking = asyncio.create_task(client.post(STREAM, json=ASK))
        attempt = await worker.start()
        response = await asking
        assert (response.status_code, response.json()["code"]) == (504, "first_token_timeout")
        await worker.wait_for_cancellation(attempt.job.id, 2)

        asking = asyncio.create_task(collect(client, STREAM, ASK))
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        *_, end = await asking
        assert (end.name, end.json["code"]) == ("error", "token_gap_timeout")
        await worker.wait_for_cancellation(attempt.job.id, 2)

        began = time.monotonic()
        asking = asyncio.create_task(collect(client, STREAM, ASK))
        attempt = await worker.start()
        while not asking.done():
            await worker.delta(attempt, "a")
            await asyncio.sleep(0.1)
        *_, end = await asking
        assert end.json["code"] == "total_timeout"
        assert time.monotonic() - began > SHORT["total_timeout_s"]
        await worker.wait_for_cancellation(attempt.job.id, 2)


async def test_while_no_worker_is_ready_its_silence_does_not_count(impatient: Gateway) -> None:
    async with served(impatient) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        worker.state = State.STARTING
        await worker.delta(attempt, "a")
        await answer.has("a")
        await stays_open(answer.task, 2 * SHORT["token_gap_timeout_s"])
        worker.state = State.READY
        await worker.delta(attempt, "b")
        await worker.done(attempt)
        assert [event.name for event in await answer.whole()] == ["", "", "done"]


async def test_a_client_that_leaves_frees_its_job_within_two_seconds(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"modelId": model, "prompt": "x"}

    # While it waits in the queue.
    asking = asyncio.create_task(client.post(INFER, json=body))
    attempt = await worker.next()
    asking.cancel()
    await worker.wait_for_cancellation(attempt.job.id, 2)

    # In the middle of its stream.
    async def first_only() -> None:
        async with streaming(client, STREAM, body) as (_, events):
            await anext(events)

    asking = asyncio.create_task(first_only())
    attempt = await worker.start()
    await worker.delta(attempt, "a")
    await asking
    await worker.wait_for_cancellation(attempt.job.id, 2)


async def test_a_finished_answer_cancels_nothing(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post(INFER, json={"modelId": model, "prompt": "x"}))
    attempt = await worker.answer("a")
    await asking
    asking = asyncio.create_task(collect(client, STREAM, {"modelId": model, "prompt": "x"}))
    second = await worker.answer("a")
    await asking
    # A cancellation after these would be announced after them.
    given_up = asyncio.create_task(client.post(INFER, json={"modelId": model, "prompt": "x"}))
    third = await worker.next()
    given_up.cancel()
    await worker.wait_for_cancellation(third.job.id, 2)
    assert not worker.cancelled.keys() & {attempt.job.id, second.job.id}


async def test_prompts_that_wait_are_bounded_in_bytes(
    new_gateway: Callable[..., Gateway], own_valkey: ValkeyServer
) -> None:
    gateway = new_gateway(own_valkey.url, limits={"max_waiting_bytes": 1_048_576})
    async with served(gateway) as (worker, client):
        await worker.take_none()
        large = {**ASK, "prompt": "x" * 400_000}
        asking = [asyncio.create_task(client.post(INFER, json=large)) for _ in range(2)]
        await worker.wait_for_waiting(2)
        response = await client.post(INFER, json=large)
        assert (response.status_code, response.json()["code"]) == (503, "queue_full")
        assert "MiB are in the queue" in response.json()["message"]
        assert "retry-after" in response.headers
        asking.append(asyncio.create_task(client.post(INFER, json=ASK)))
        await worker.wait_for_waiting(3)
        worker.takes = True
        for _ in range(3):
            await worker.answer("a")
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}


async def test_nothing_new_is_let_in_before_memory_is_short(
    new_gateway: Callable[..., Gateway], own_valkey: ValkeyServer
) -> None:
    gateway = new_gateway(own_valkey.url)
    key = {"Idempotency-Key": "again"}
    async with served(gateway) as (worker, client):
        asking = asyncio.create_task(client.post(INFER, json=ASK, headers=key))
        running = await worker.start()
        used = (await worker.db.info("memory"))["used_memory"]
        # Above three quarters of it, though a tenth is the buffers of the moment.
        await worker.db.config_set("maxmemory", int(used * 1.15))
        response = await _first_refusal(client)
        assert response.json()["code"] == "queue_full"
        assert "memory is nearly full" in response.json()["message"]
        assert "retry-after" in response.headers
        # Jobs that were let in go on, and can be asked for again.
        again = asyncio.create_task(client.post(INFER, json=ASK, headers=key))
        await worker.delta(running, "a")
        await worker.done(running)
        assert [(await each).json()["text"] for each in (asking, again)] == ["a", "a"]
        await worker.db.config_set("maxmemory", 0)


async def test_work_in_batches_leaves_memory_to_others() -> None:
    class Server:
        async def info(self, _: str) -> dict[str, int]:
            return {"maxmemory": 1000, "used_memory": 600}

    server: Any = Server()
    memory = QueueMemory(server)
    assert memory.take(10**9, is_batch=True), "nothing is known yet"
    watching = asyncio.create_task(memory.watch())
    await until(lambda: memory._left is not None)
    assert memory.take(40, is_batch=True)
    assert not memory.take(20, is_batch=True)
    assert memory.take(80, is_batch=False)
    assert not memory.take(20, is_batch=False)
    watching.cancel()


async def _first_refusal(client: httpx.AsyncClient) -> httpx.Response:
    """Of requests that would be let in, but that no worker answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await client.post(INFER, json=ASK, timeout=0.5)
            except httpx.ReadTimeout:
                continue


async def test_an_answer_that_is_not_kept_whole_is_not_resumed_in_part(
    new_gateway: Callable[..., Gateway], own_valkey: ValkeyServer
) -> None:
    gateway = new_gateway(own_valkey.url, limits={"max_reply_bytes": 1_048_576})
    key = {"Idempotency_Key": "again"}
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK, **key) as answer:
        attempt = await worker.start()
        for _ in range(40):
            await worker.delta(attempt, "x" * 50_000)

        async def is_cut() -> bool:
            return await worker.db.xlen(attempt.reply) <= 25

        await until(is_cut)
        resuming = asyncio.create_task(collect(client, STREAM, ASK, **key))
        await worker.delta(attempt, "end")
        await worker.done(attempt)
        whole = await answer.whole()
        assert (len(whole), whole[-1].name) == (42, "done")
        with pytest.raises(AssertionError, match="lost"):
            await resuming


#: Without an expiry: each has an entry for what is alive or open now, and for nothing that is over.
LASTING = {"queue", "leases", "ready", "beats"}


async def test_nothing_that_is_over_stays_in_redis_for_ever(
    new_gateway: Callable[..., Gateway], own_valkey: ValkeyServer
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with served(gateway) as (worker, client):
        for headers in ({}, {"Idempotency-Key": "k"}):
            asking = asyncio.create_task(client.post(INFER, json=ASK, headers=headers))
            await worker.answer("a")
            assert (await asking).status_code == 200
        async with streaming(client, STREAM, ASK) as (_, events):
            given_up = await worker.start()
            await worker.delta(given_up, "a")
            await anext(events)
        await worker.wait_for_cancellation(given_up.job.id, 5)
        await worker.done(given_up, "cancelled")
        keys = [key.decode() for key in await worker.db.keys("*")]
        lasting = {key for key in keys if await worker.db.pttl(key) == -1}
        assert {key.rpartition(":")[2] for key in lasting} <= LASTING, lasting
        assert await worker.db.xlen("ew:{m}:queue") == 0
        assert {key for key in keys if ":job:" in key}, "they are kept for a while"
