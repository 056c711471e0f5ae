"""Answers that survive what breaks: connections, gateways, Redis."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from contract.bus.claims import Attempt
from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, HOSTS, Heartbeats
from contract.bus.replies import reply_key
from contract.gateway_beat import GatewayBeat
from contract.host_beat import HostBeat
from contract.messages import Envelope
from contract.wire import encode_frame
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import leap, restore, snapshot
from tests.failover import Failover
from tests.gateway.conftest import LOOK_OFTEN, Gateway, client_of, served, stays_open
from tests.gateway.scripted_worker import ScriptedWorker, blocked_clients, delta, done
from tests.gateway.sse_client import Event, collect, have, reading, streaming, texts_of
from tests.redis_proxy import RedisProxy
from tests.waiting import until

INFER = "/api/v1/inference"
STREAM = "/api/v1/inference/stream"
ASK = {"modelId": "m", "prompt": "x"}
TIDY_EVERY_S = 0.05
PATIENCE = "gateway.jobs.patient_link.PATIENCE_S"
TIDY_OFTEN = {"gateway.lifecycle.housekeeping._TIDY_EVERY_S": TIDY_EVERY_S}


async def test_a_broken_connection_is_resumed_where_it_broke(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}

    async def two_events() -> list[Event]:
        async with streaming(client, STREAM, ask, idempotency_key="k1") as (_, events):
            return [await anext(events), await anext(events)]

    asking = asyncio.create_task(two_events())
    attempt = await worker.start()
    await worker.delta(attempt, "a", "b")
    assert [event.number for event in await asking] == [0, 1]
    await worker.delta(attempt, "c")
    async with reading(client, STREAM, ask, idempotency_key="k1", last_event_id="1") as resumed:
        await resumed.has("c")
        await worker.delta(attempt, "d")
        await worker.done(attempt)
        rest = await resumed.whole()
    assert [event.number for event in rest] == [2, 3, 4]
    assert texts_of(rest) == "cd"
    assert rest[-1].name == "done"
    assert attempt.job.id not in worker.cancelled
    assert worker.attempts.empty()


async def test_the_same_request_again_gets_the_same_answer(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    asking = asyncio.create_task(collect(client, STREAM, ask, idempotency_key="k2"))
    await worker.answer("a", "b")
    first = await asking
    again = await collect(client, STREAM, ask, idempotency_key="k2")
    assert texts_of(again) == texts_of(first) == "ab"
    assert worker.attempts.empty()


async def test_two_clients_can_share_one_answer_while_it_comes(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    async with reading(client, STREAM, ask, idempotency_key="k3") as first:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await first.has("a")
        async with reading(client, STREAM, ask, idempotency_key="k3") as second:
            await second.has("a")
            await worker.delta(attempt, "b")
            await worker.done(attempt)
            assert texts_of(await first.whole()) == texts_of(await second.whole()) == "ab"
    assert worker.attempts.empty()


async def test_an_idempotency_key_is_for_one_request(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    headers = {"Idempotency-Key": "k4"}
    ask = {"modelId": model, "prompt": "x"}
    asking = asyncio.create_task(client.post(INFER, json=ask, headers=headers))
    await worker.answer("a")
    await asking
    other = await client.post(INFER, json={**ask, "prompt": "y"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


async def test_a_request_that_failed_for_now_is_made_anew_by_the_same_key(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    asking = asyncio.create_task(collect(client, STREAM, ask, idempotency_key="k6"))
    first = await worker.start()
    await worker.delta(first, "a")
    await worker.fail(first, retryable=True)
    *_, end = await asking
    assert (end.name, end.json["retryable"]) == ("error", True)

    resume = {"Idempotency-Key": "k6", "Last-Event-ID": "0"}
    resumed = await client.post(STREAM, json=ask, headers=resume)
    assert resumed.json()["code"] == "engine_failed", "what is resumed ends as it did"

    again = asyncio.create_task(collect(client, STREAM, ask, idempotency_key="k6"))
    second = await worker.start()
    await worker.delta(second, "b")
    assert second.job.id != first.job.id
    await worker.done(second)
    assert texts_of(await again) == "b"
    assert texts_of(await collect(client, STREAM, ask, idempotency_key="k6")) == "b"
    rest = await collect(client, STREAM, ask, idempotency_key="k6", last_event_id="0")
    assert rest[-1].name == "done"
    assert worker.attempts.empty()


async def test_a_request_that_failed_for_good_is_not_made_anew(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    headers = {"Idempotency-Key": "k7"}
    asking = asyncio.create_task(client.post(INFER, json=ask, headers=headers))
    await worker.fail(await worker.start(), retryable=False)
    assert (await asking).json()["code"] == "engine_failed"
    again = await client.post(INFER, json=ask, headers=headers)
    assert again.json()["code"] == "engine_failed"
    assert worker.attempts.empty()


async def test_a_request_that_took_too_long_is_made_anew_by_the_same_key(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, limits={"first_token_timeout_s": 3})
    headers = {"Idempotency-Key": "k"}
    async with served(gateway) as (worker, client):
        await asyncio.to_thread(gateway.wait_until_ready)
        asking = asyncio.create_task(client.post(INFER, json=ASK, headers=headers))
        await worker.start()
        assert (await asking).json()["code"] == "first_token_timeout"
        again = asyncio.create_task(client.post(INFER, json=ASK, headers=headers))
        await worker.answer("a")
        assert (await again).json()["text"] == "a"


async def test_open_answers_of_a_model_that_has_ended_fail_within_seconds(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    constants = {**LOOK_OFTEN, "gateway.lifecycle.housekeeping._LOOKED_SINCE_S": 0.3}
    gateway = new_gateway(own_valkey.url, constants=constants)
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        await asyncio.to_thread(gateway.wait_until_ready)
        hosts = Heartbeats(worker.db, HOSTS)
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        await hosts.beat("here", HostBeat("here", ended={"m": "it was stopped"}), ready=True)
        # It has a worker.
        await stays_open(answer.task, 0.6)
        worker.beats = False
        await hosts.beat("there", HostBeat("there", coming=("m",)), ready=True)
        await worker.leave()
        await hosts.beat("here", HostBeat("here", ended={"m": "it was stopped"}), ready=True)
        # Another host says that it comes.
        await stays_open(answer.task, 0.6)
        await hosts.leave("there")
        await hosts.beat("here", HostBeat("here", ended={"m": "it was stopped"}), ready=True)
        *_, end = await answer.whole()
        assert (end.json["code"], end.json["retryable"]) == ("model_not_started", True)
        assert "it was stopped" in end.json["message"]
        await worker.wait_for_cancellation(attempt.job.id, 5)


async def test_what_cannot_be_resumed_is_not_begun_anew(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    resume = {"Idempotency-Key": "k5", "Last-Event-ID": "3"}
    response = await client.post(STREAM, json=ask, headers=resume)
    assert (response.status_code, response.json()["code"]) == (410, "answer_gone")
    for headers in (
        {"Last-Event-ID": "3"},
        {"Idempotency-Key": "k5", "Last-Event-ID": "x"},
        {"Idempotency-Key": "k5", "Last-Event-ID": "3-"},
        {"Idempotency-Key": "k5", "Last-Event-ID": "3-6615768A9BBCF"},
        {"Idempotency-Key": "k 5"},
        {"Idempotency-Key": "x" * 256},
    ):
        response = await client.post(STREAM, json=ask, headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_header")
    assert worker.attempts.empty()


async def begun_and_cut(gateway: Gateway, worker: ScriptedWorker) -> Attempt:
    """An answer of which the client has the first piece when its gateway is killed."""

    async def begin() -> Attempt:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        return attempt

    beginning = asyncio.create_task(begin())
    async with client_of(gateway) as doomed:
        with pytest.raises(httpx.TransportError):
            async with streaming(doomed, STREAM, ASK, idempotency_key="k") as (_, events):
                async for event in events:
                    if event.number == 0:
                        gateway.kill()
    return await beginning


async def test_an_answer_outlives_the_gateway_that_asked_for_it(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    first = new_gateway(own_valkey.url)
    second = new_gateway(own_valkey.url, first.key)
    async with served(second) as (worker, client):
        attempt = await begun_and_cut(first, worker)
        before = await blocked_clients(worker.db)

        async def is_followed() -> bool:
            return await blocked_clients(worker.db) > before

        resuming = asyncio.create_task(
            collect(client, STREAM, ASK, idempotency_key="k", last_event_id="0")
        )
        await until(is_followed)
        await worker.delta(attempt, "b")
        await worker.done(attempt)
        assert texts_of(await resuming) == "b"


async def test_who_follows_a_dead_gateways_answer_keeps_it_from_being_dropped(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    """Workers drop the jobs of gateways whose lease has ended."""
    first = new_gateway(own_valkey.url)
    second = new_gateway(own_valkey.url, first.key)
    async with served(second) as (worker, client):
        attempt = await begun_and_cut(first, worker)
        owner = attempt.reply.removeprefix(reply_key(""))
        gateways = Heartbeats(worker.db, GATEWAYS)
        assert owner in await gateways.names()
        await gateways.leave(owner)
        resuming = asyncio.create_task(collect(client, STREAM, ASK, idempotency_key="k"))
        deadline = time.monotonic() + 8
        while owner not in await gateways.names():
            assert time.monotonic() < deadline, "the dead gateway's lease was not taken over"
            await asyncio.sleep(0.1)
        await worker.done(attempt)
        assert texts_of(await resuming) == "a"


async def test_redis_may_be_killed_and_come_back_in_the_middle_of_a_stream(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        for number in range(10):
            await worker.delta(attempt, f"{number} ")
        await answer.has("9 ")
        own_valkey.kill()
        await gateway.wait_for_log("Redis does not answer")
        own_valkey.start()
        for number in range(10, 20):
            await worker.delta(attempt, f"{number} ")
        await worker.done(attempt)
        events = await answer.whole()
        assert texts_of(events) == "".join(f"{number} " for number in range(20))
        assert [event.id for event in events] == [str(n) for n in range(21)], "no key: no attempt"
        assert events[-1].name == "done"


async def test_an_answer_goes_on_at_the_replica_that_a_sentinel_promotes(
    new_gateway: Callable[..., Gateway], failover: Failover
) -> None:
    gateway = new_gateway(failover.url)
    async with served(gateway) as (worker, client):
        async with reading(client, STREAM, ASK) as answer:
            attempt = await worker.start()
            await worker.delta(attempt, "a", "b")
            await answer.has("ab")
            await asyncio.to_thread(failover.kill_primary)
            await worker.delta(attempt, "c")
            await worker.done(attempt)
            assert texts_of(await answer.whole()) == "abc"
        asking = asyncio.create_task(client.post(INFER, json=ASK))
        await worker.answer("d")
        assert (await asking).json()["text"] == "d"


async def test_a_request_waits_out_a_restart_of_redis_but_not_its_absence(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, constants={PATIENCE: 2})
    async with served(gateway) as (worker, client):
        own_valkey.kill()
        asking = asyncio.create_task(client.post(INFER, json=ASK))
        await gateway.wait_for_log("Redis does not answer")
        own_valkey.start()
        await worker.answer("a")
        assert (await asking).json()["text"] == "a"

        own_valkey.kill()
        # This one waits as long as a request does; from then on none waits.
        assert (await client.post(INFER, json=ASK)).status_code == 503
        began = time.monotonic()
        response = await client.post(INFER, json=ASK)
        assert time.monotonic() - began < 1
        assert (response.status_code, response.json()["code"]) == (503, "backend_down")
        assert "retry-after" in response.headers
        assert (await client.get("/health/live")).status_code == 200
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert "Redis does not answer" in ready.json()["reasons"]

        own_valkey.start()
        asking = asyncio.create_task(_ask_until_answered(client))
        await worker.answer("b")
        assert (await asking)["text"] == "b"


async def test_a_request_waits_until_a_new_gateway_has_found_redis(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    async with ScriptedWorker(own_valkey.url, "m") as worker:
        own_valkey.kill()
        async with client_of(new_gateway(own_valkey.url)) as client:
            asking = asyncio.create_task(client.post(INFER, json=ASK))
            await stays_open(asking, 0.25)
            own_valkey.start()
            await worker.answer("a")
            assert (await asking).json()["text"] == "a"


async def _ask_until_answered(client: httpx.AsyncClient) -> Any:
    deadline = time.monotonic() + 10
    while True:
        response = await client.post(INFER, json=ASK)
        if response.status_code == 200:
            return response.json()
        assert time.monotonic() < deadline, response.text
        await asyncio.sleep(0.1)


async def test_a_frozen_redis_only_delays(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, constants=LOOK_OFTEN)
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        own_valkey.process.send_signal(signal.SIGSTOP)
        saying = asyncio.create_task(worker.delta(attempt, "b"))
        await gateway.wait_for_log("Redis does not answer")
        assert not answer.task.done()
        own_valkey.process.send_signal(signal.SIGCONT)
        await saying
        await worker.done(attempt)
        events = await answer.whole()
        assert texts_of(events) == "ab"
        assert events[-1].name == "done"


async def test_a_put_whose_fate_is_unknown_leaves_no_job_behind(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, constants={PATIENCE: 1})
    async with served(gateway) as (worker, client):
        # So that the gateway has a connection: what it sends arrives once Redis goes on.
        asking = asyncio.create_task(client.post(INFER, json=ASK))
        await worker.answer("a")
        await asking
        await worker.take_none()
        own_valkey.process.send_signal(signal.SIGSTOP)
        response = await client.post(INFER, json=ASK)
        assert response.json()["code"] == "backend_down"
        own_valkey.process.send_signal(signal.SIGCONT)

        async def was_put_and_cancelled() -> bool:
            return sorted(await _states(worker.db, "m")) == [b"cancelled", b"done"]

        await until(was_put_and_cancelled)
        worker.takes = True
        asking = asyncio.create_task(client.post(INFER, json={**ASK, "prompt": "next"}))
        (message,) = (await worker.answer("a")).job.messages or ()
        assert message.content == "next"
        assert (await asking).status_code == 200
        assert worker.attempts.empty()


async def _states(db: Any, model: str) -> list[bytes]:
    """The states of all jobs that Redis knows of a model."""
    return [await db.hget(key, "state") async for key in db.scan_iter(f"ew:{{{model}}}:job:*")]


async def test_answers_that_redis_has_forgotten_fail_as_lost(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url)
    async with served(gateway) as (worker, client):
        async with reading(client, STREAM, ASK) as answer:
            attempt = await worker.start()
            await worker.delta(attempt, "a")
            await answer.has("a")
            await worker.db.flushall()
            *_, end = await answer.whole()
        assert (end.name, end.json["code"]) == ("error", "lost")
        asking = asyncio.create_task(_ask_until_answered(client))
        await worker.answer("b")
        assert (await asking)["text"] == "b"


async def test_the_gateway_starts_without_redis_and_serves_when_it_comes(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    own_valkey.kill()
    gateway = new_gateway(own_valkey.url, constants={PATIENCE: 1})
    async with client_of(gateway) as client:
        response = await client.post(INFER, json=ASK)
        assert (response.status_code, response.json()["code"]) == (503, "backend_down")
        own_valkey.start()
        async with ScriptedWorker(own_valkey.url, "m") as worker:
            asking = asyncio.create_task(_ask_until_answered(client))
            await worker.answer("a")
            assert (await asking)["text"] == "a"


async def test_the_reply_stream_keeps_only_what_is_needed(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, constants=TIDY_OFTEN)
    async with served(gateway) as (worker, client):
        reading = asyncio.create_task(collect(client, STREAM, ASK))
        attempt = await worker.start()
        for _ in range(1000):
            await worker.delta(attempt, "x")
        await asyncio.sleep(5 * TIDY_EVERY_S)
        assert await worker.db.xlen(attempt.reply) >= 1000
        await worker.done(attempt)
        assert len(await reading) == 1001
        deadline = time.monotonic() + 6
        while await worker.db.xlen(attempt.reply) > 200:
            assert time.monotonic() < deadline, "the reply stream was not trimmed"
            await asyncio.sleep(0.1)


async def test_a_frame_that_cannot_be_read_harms_no_answer_but_its_own(
    gateway: Gateway, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ask = {"modelId": model, "prompt": "x"}
    process = gateway.process
    asked = [reading(client, STREAM, ask) for _ in range(3)]
    async with AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(each) for each in asked]
        first, second, third = [await worker.start() for _ in answers]
        for attempt in (first, second, third):
            await worker.delta(attempt, "a")
        await have(answers, "a")
        bad_text = Envelope(first.job.id, first.number, 1, delta("xyz"))
        frame = encode_frame([bad_text, Envelope(second.job.id, second.number, 1, delta("b"))])
        for fields in (
            {"f": b"\xc1 not a frame"},
            {"g": b"no field of a frame"},
            {"f": frame.replace(b"xyz", b"\xff\xfe\xfd")},
        ):
            await worker.db.xadd(first.reply, fields)
        lost = Envelope(third.job.id, third.number, 2, delta("c"))
        await worker.send(third, lost)
        await worker.send(second, Envelope(second.job.id, second.number, 2, done(second, 2)))
        by_job = [await answer.whole() for answer in answers]
    ends = sorted((events[-1].name, texts_of(events)) for events in by_job)
    assert ends == [("done", "ab"), ("error", "a"), ("error", "a")]
    codes = [events[-1].json["code"] for events in by_job if events[-1].name == "error"]
    assert codes == ["lost", "lost"]
    assert process is not None
    assert process.poll() is None


async def test_a_heartbeat_that_cannot_be_read_is_left_out(
    client: httpx.AsyncClient, worker: ScriptedWorker
) -> None:
    beat = msgspec.msgpack.encode(GatewayBeat("xyz", "h", 1)).replace(b"xyz", b"\xff\xfe\xfd")
    for tag in (GATEWAYS, worker.model):
        await Heartbeats(worker.db, tag).beat("odd", msgspec.Raw(beat), ready=True)  # type: ignore[arg-type]
    try:
        response = await client.get("/metrics")
        assert response.status_code == 200
        assert "ew_requests_total" in response.text
    finally:
        for tag in (GATEWAYS, worker.model):
            await Heartbeats(worker.db, tag).leave("odd")


async def test_a_key_names_one_request_of_one_model_and_one_route(
    redis_url: str, client: httpx.AsyncClient, worker: ScriptedWorker, _models: Any
) -> None:
    other_model = next(_models)
    async with ScriptedWorker(redis_url, other_model, "w2") as other_worker:
        key = {"Idempotency-Key": "one-for-two"}
        asks = [{"modelId": model, "prompt": "x"} for model in (worker.model, other_model)]
        asking = [asyncio.create_task(client.post(INFER, json=ask, headers=key)) for ask in asks]
        answered, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert [response.result().status_code for response in answered] == [422]
        mine = worker if asking[1] in answered else other_worker
        await mine.answer("a")
        bodies = [(await response).json() for response in asking]
        assert sorted(body.get("text", body.get("code")) for body in bodies) == [
            "a",
            "idempotency_conflict",
        ]
        assert worker.attempts.empty()
        assert other_worker.attempts.empty()
        asked = asks[0] if mine is worker else asks[1]
        other_route = await client.post(STREAM, json=asked, headers=key)
        assert (other_route.status_code, other_route.json()["code"]) == (
            422,
            "idempotency_conflict",
        )


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_openai_stream_is_resumed_after_the_last_event_id(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    ask: dict[str, Any] = {"model": model, "stream": True}
    ask |= {"prompt": "x"} if path == "/v1/completions" else {"messages": [_SAY_X]}
    asking = asyncio.create_task(collect(client, path, ask, idempotency_key=f"o-{path}"))
    await worker.answer("a", "b", "c")
    whole = await asking
    numbered = [event for event in whole if event.id is not None]
    assert [event.number for event in numbered] == [0, 1, 2, 3]
    assert whole[-1] is numbered[-1]
    assert whole[-1].data == "[DONE]"
    rest = await collect(client, path, ask, idempotency_key=f"o-{path}", last_event_id="1")
    first = whole.index(numbered[2])
    assert [(event.id, _without_time(event)) for event in rest] == [
        (event.id, _without_time(event)) for event in whole[first:]
    ]
    assert worker.attempts.empty()
    asking = asyncio.create_task(collect(client, path, ask))
    await worker.answer("a")
    assert [event.id for event in await asking if event.id is not None] == []


_SAY_X = {"role": "user", "content": "x"}


def _without_time(event: Event) -> Any:
    return event.data if event.data == "[DONE]" else {**event.json, "created": 0}


async def test_an_answer_whose_put_was_in_doubt_can_be_resumed(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    """Redis takes the job, and the gateway does not hear of it in time."""
    gateway = new_gateway(own_valkey.url, constants={PATIENCE: 1, **TIDY_OFTEN})
    async with served(gateway) as (worker, client):
        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            asked = await client.post(STREAM, json=ASK, headers={"Idempotency-Key": "k"})
        finally:
            own_valkey.process.send_signal(signal.SIGCONT)
        assert (asked.status_code, asked.json()["code"]) == (503, "backend_down")
        again = asyncio.create_task(collect(client, STREAM, ASK, idempotency_key="k"))
        attempt = await worker.start()
        # Enough for a trim to remove something.
        for _ in range(300):
            await worker.delta(attempt, "a")
        await worker.done(attempt)
        assert texts_of(await again) == "a" * 300
        # Several trims; nothing may be removed by any of them.
        await asyncio.sleep(5 * TIDY_EVERY_S)
        rest = await collect(client, STREAM, ASK, idempotency_key="k", last_event_id="1")
        assert texts_of(rest) == "a" * 298
        assert worker.attempts.empty()


async def test_a_redis_that_accepts_and_resets_ends_no_gateway(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    async with RedisProxy(str(own_valkey.socket)) as proxy:
        gateway = await asyncio.to_thread(new_gateway, proxy.url)
        async with ScriptedWorker(own_valkey.url, "m") as worker, client_of(gateway) as client:
            await asyncio.to_thread(gateway.wait_until_ready)
            asking = asyncio.create_task(client.post(INFER, json=ASK))
            attempt = await worker.start()
            proxy.reset()
            cut, deadline = proxy.resets, time.monotonic() + 20
            while proxy.resets < cut + 20:
                assert time.monotonic() < deadline, "the gateway does not try again"
                await asyncio.sleep(0.02)
            assert gateway.process is not None
            assert gateway.process.poll() is None
            proxy.heal()
            await worker.delta(attempt, "a")
            await worker.done(attempt)
            assert (await asking).json()["text"] == "a"
            assert gateway.process.poll() is None


async def test_a_clock_that_leaps_an_hour_forward_ends_no_answer(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    gateway = new_gateway(own_valkey.url, constants=TIDY_OFTEN)
    async with served(gateway) as (worker, client), reading(client, STREAM, ASK) as answer:
        attempt = await worker.start()
        await worker.delta(attempt, "a")
        await answer.has("a")
        (stream,) = await worker.db.keys("ew:out:*")
        before = await worker.db.pttl(stream)
        await leap(worker.db, 3600)
        assert await worker.db.pttl(stream) < before - 3_500_000, "the clock did not leap"
        # The gateway looks after its stream, and after its answers, several times.
        await asyncio.sleep(5 * TIDY_EVERY_S)
        assert await worker.db.exists(stream)
        await worker.delta(attempt, "b")
        await worker.done(attempt)
        events = await answer.whole()
        assert (texts_of(events), events[-1].name) == ("ab", "done")


async def test_a_clock_that_leaps_an_hour_forward_refuses_no_request(
    new_gateway: Callable[..., Gateway], own_valkey: Any
) -> None:
    """All leases end at once, until each has beaten."""
    gateway = new_gateway(own_valkey.url, constants=TIDY_OFTEN)
    async with served(gateway) as (worker, client):
        await asyncio.to_thread(gateway.wait_until_ready)
        worker.beats = False
        await leap(worker.db, 3600)
        assert await Heartbeats(worker.db, "m").names() == set(), "a lease holds"
        asking = asyncio.create_task(client.post(INFER, json=ASK))
        await worker.answer("a")
        response = await asking
        assert (response.status_code, response.json()["text"]) == (200, "a")
        assert await Heartbeats(worker.db, "m").names() == set(), "a lease was renewed"


Promote = Callable[[dict[bytes, bytes]], AbstractAsyncContextManager[ScriptedWorker]]


@asynccontextmanager
async def failing_over(valkey: Any, path: Path) -> AsyncIterator[tuple[RedisProxy, Promote]]:
    """A proxy in front of a server, and what promotes a replica to its place, which has only the
    writes up to a snapshot; it gives a worker there."""
    replica = ValkeyServer(path)
    replica.start()
    try:
        async with RedisProxy(str(valkey.socket)) as proxy, connect(replica.url) as db:

            @asynccontextmanager
            async def promote(older: dict[bytes, bytes]) -> AsyncIterator[ScriptedWorker]:
                async with ScriptedWorker(replica.url, "m", "w2") as other:
                    await restore(db, older)
                    proxy.reset()
                    proxy.switch(str(replica.socket))
                    proxy.heal()
                    yield other

            yield proxy, promote
    finally:
        replica.kill()


async def test_an_answer_whose_attempt_a_replica_never_heard_of_is_not_gone_on_with_by_another(
    new_gateway: Callable[..., Gateway], own_valkey: Any, tmp_path: Path
) -> None:
    async with (
        failing_over(own_valkey, tmp_path) as (proxy, promote),
        ScriptedWorker(own_valkey.url, "m") as worker,
        client_of(new_gateway(proxy.url)) as client,
    ):
        worker.takes = False
        async with streaming(client, STREAM, ASK) as (_, events):
            said = (event async for event in events if event.name != ":")
            await worker.wait_for_waiting(1)
            older = await snapshot(worker.db)
            worker.takes = True
            lost = await worker.start()
            await worker.delta(lost, "a", "b")
            assert [(await anext(said)).json["text"] for _ in range(2)] == ["a", "b"]
            async with promote(older) as other:
                begun = await other.start()
                assert (begun.job, begun.ordinal) == (lost.job, lost.ordinal)
                await other.delta(begun, "x", "y", "z")
                (end,) = [event async for event in said]
        assert (end.name, end.json["code"]) == ("error", "lost")


async def test_what_a_client_has_is_not_gone_on_with_after_a_failover_by_another_text(
    new_gateway: Callable[..., Gateway], own_valkey: Any, tmp_path: Path
) -> None:
    """It asks for the rest of `ab`, which the promoted server knows nothing of."""
    async with (
        failing_over(own_valkey, tmp_path) as (proxy, promote),
        ScriptedWorker(own_valkey.url, "m") as worker,
        client_of(new_gateway(proxy.url)) as client,
    ):
        worker.takes = False
        async with streaming(client, STREAM, ASK, idempotency_key="k") as (_, events):
            said = (event async for event in events if event.name != ":")
            await worker.wait_for_waiting(1)
            older = await snapshot(worker.db)
            worker.takes = True
            attempt = await worker.start()
            await worker.delta(attempt, "a", "b")
            has = [await anext(said) for _ in range(2)]
        async with promote(older) as other:
            begun = await other.start()
            await other.delta(begun, "x", "y")
            resume = {"Idempotency-Key": "k", "Last-Event-ID": has[-1].id or ""}
            running = await client.post(STREAM, json=ASK, headers=resume)
            assert running.json()["code"] == "lost"
            await other.delta(begun, "z")
            await other.done(begun)
            complete = await client.post(STREAM, json=ASK, headers=resume)
            assert complete.json()["code"] == "lost"
            again = await collect(client, STREAM, ASK, idempotency_key="k")
            assert texts_of(again) == "xyz"
            last = {"idempotency_key": "k", "last_event_id": again[1].id or ""}
            assert texts_of(await collect(client, STREAM, ASK, **last)) == "z"
            old = {"idempotency_key": "k", "last_event_id": "1"}
            assert texts_of(await collect(client, STREAM, ASK, **old)) == "z", "no attempt is said"


async def test_an_attempt_that_a_clock_behind_numbers_below_the_last_ends_the_answer(
    new_gateway: Callable[..., Gateway], own_valkey: Any, tmp_path: Path
) -> None:
    async with (
        failing_over(own_valkey, tmp_path) as (proxy, promote),
        ScriptedWorker(own_valkey.url, "m") as worker,
        client_of(new_gateway(proxy.url, constants=TIDY_OFTEN)) as client,
    ):
        worker.takes = False
        async with reading(client, STREAM, ASK) as answer:
            await worker.wait_for_waiting(1)
            older = await snapshot(worker.db)
            (job,) = await worker.db.keys("ew:{m}:job:*")
            an_hour_ahead = int((time.time() + 3600) * 1e6)
            await worker.db.hset(job, "attempt", an_hour_ahead)
            worker.takes = True
            attempt = await worker.start()
            assert attempt.number > an_hour_ahead
            await worker.delta(attempt, "a")
            await answer.has("a")
            async with promote(older) as other:
                begun = await other.start()
                assert begun.number < attempt.number
                await other.delta(begun, "x")
                *_, end = await answer.whole()
                assert (end.name, end.json["code"]) == ("error", "lost")


async def test_an_answer_that_a_lagging_replica_never_heard_of_fails_within_seconds(
    new_gateway: Callable[..., Gateway], own_valkey: Any, tmp_path: Path
) -> None:
    silent_s = "gateway.lifecycle.lost_ends._SILENT_S"
    async with (
        failing_over(own_valkey, tmp_path) as (proxy, promote),
        ScriptedWorker(own_valkey.url, "m") as worker,
        client_of(new_gateway(proxy.url, constants={silent_s: 0.5, **TIDY_OFTEN})) as client,
    ):
        older = await snapshot(worker.db)
        async with reading(client, STREAM, ASK) as answer:
            attempt = await worker.start()
            await worker.delta(attempt, "a")
            await answer.has("a")
            assert attempt.job.id not in str(older), "it does not lag"
            async with promote(older):
                *_, end = await answer.whole()
                assert (end.name, end.json["code"]) == ("error", "lost")
