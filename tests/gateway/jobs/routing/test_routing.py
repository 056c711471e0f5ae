"""Requests for a model that another one does: shares of them, and fallbacks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.bus.client import connect
from contract.bus.heartbeats import HOSTS, Heartbeats
from contract.bus.registration import Registration, end_registration, renew_registrations
from contract.config import SplitConfig
from contract.host_beat import Condition, HostBeat
from contract.messages import Job, Sampling, State
from contract.process.tasks import cancel_and_wait
from gateway.jobs.routing.routing import share_of
from tests.contract.queue_workers import count_waiting
from tests.gateway.conftest import LOOK_OFTEN, Gateway, client_of, with_constants
from tests.gateway.scripted_worker import ScriptedWorker
from tests.waiting import until

MOCK = {"engine": "mock", "model_path": "none"}
MODELS: dict[str, Any] = {
    "big": {**MOCK, "served_model_name": "big-1", "fallback": {"to": ["small", "tiny"]}},
    "busy": {**MOCK, "fallback": {"to": ["small"], "after_waiting": 2}},
    "picky": {**MOCK, "fallback": {"to": ["short", "small"]}},
    "shared": {**MOCK, "split": {"to": {"canary": 20.0}, "by": "request"}},
    "sticky": {**MOCK, "split": {"to": {"canary": 50.0}}},
    "moved": {**MOCK, "split": {"to": {"canary": 100.0}}, "fallback": {"to": ["small"]}},
    "watched": {**MOCK, "shadow": {"to": "copier", "max_open": 2}},
    "copier": MOCK,
    "slow": {**MOCK, "fallback": {"to": ["short", "small"], "after_wait_s": 0.2}},
    "canary": MOCK,
    "small": {**MOCK, "served_model_name": "small-1"},
    "tiny": MOCK,
    "short": {**MOCK, "max_output_len": 5},
}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all tests here; each has models of its own to ask for."""
    config = {"models": MODELS, "gateway": {"processes": 1}}
    started = Gateway(tmp_path_factory.mktemp("gateway"), redis_url, config)
    started.command = with_constants(LOOK_OFTEN)
    started.start()
    yield started
    assert started.stop() == 0, started.log.read_text()


@asynccontextmanager
async def answering(
    gateway: Gateway, *models: str, also: str | None = None
) -> AsyncIterator[dict[str, list[Job]]]:
    """Workers that answer everything at once; yield the jobs that each model had. The gateway
    knows of them, and that the others have none."""
    done: dict[str, list[Job]] = {model: [] for model in models}

    async def answer(worker: ScriptedWorker) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                attempt = await worker.start()
                done[worker.model].append(attempt.job)
                await worker.delta(attempt, "x")
                await worker.done(attempt)

    async with contextlib.AsyncExitStack() as stack:
        workers = [ScriptedWorker(gateway.redis_url, model) for model in models]
        for worker in workers:
            await stack.enter_async_context(worker)
        async with client_of(gateway) as client:
            await until_known(client, {*models, *([also] if also else [])})
        answering = [asyncio.create_task(answer(worker)) for worker in workers]
        try:
            yield done
        finally:
            await cancel_and_wait(answering)


async def until_known(client: httpx.AsyncClient, ready: set[str]) -> None:
    """Return once the gateway has seen which models are ready."""

    async def is_known() -> bool:
        listed = (await client.get("/api/v1/models")).json()["models"]
        return {each["id"] for each in listed if each["state"] == "ready"} == ready

    await until(is_known)


async def until_waiting(client: httpx.AsyncClient, model: str, count: int) -> None:
    """Return once the gateway has seen that so many jobs wait for a model."""

    async def is_known() -> bool:
        listed = (await client.get("/api/v1/models")).json()["models"]
        return any(each["id"] == model and each["waiting"] == count for each in listed)

    await until(is_known)


def chat(model: str, text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def test_a_model_that_is_not_there_is_replaced_and_the_answer_says_by_whom(
    gateway: Gateway,
) -> None:
    async with client_of(gateway) as client, answering(gateway, "tiny") as done:
        answer = await client.post(CHAT, json=chat("big"))
        assert answer.json()["model"] == "tiny"
        assert answer.headers["x-ew-model"] == "tiny"
        assert answer.headers["x-ew-moved-by"] == "unavailable"
        assert [job.moved_from for job in done["tiny"]] == ["big"]
    async with client_of(gateway) as client, answering(gateway, "small", "tiny") as done:
        streamed = await client.post(CHAT, json=chat("big", stream=True))
        assert streamed.headers["x-ew-model"] == "small"
        assert '"model":"small-1"' in streamed.text
        # Its own name again once it is there.
    async with client_of(gateway) as client, answering(gateway, "big", "small") as done:
        answer = await client.post(CHAT, json=chat("big"))
        assert (answer.json()["model"], answer.headers.get("x-ew-model")) == ("big-1", None)
        assert [job.moved_from for job in done["big"]] == [""]


async def test_a_model_that_is_restarted_is_replaced_meanwhile(gateway: Gateway) -> None:
    db = connect(gateway.redis_url)
    async with aclosing(db), client_of(gateway) as client, answering(gateway, "small") as done:
        await renew_registrations(db, "here", {"big": Registration("loading", is_returning=True)})
        # A gateway that has seen this has seen the registration, too.
        told = HostBeat("here", models={"big": Condition(State.STARTING, "loading")})
        await Heartbeats(db, HOSTS).beat("here", told, ready=True)

        async def is_known() -> bool:
            listed = (await client.get("/api/v1/models")).json()["models"]
            return any((each["id"], each["stage"]) == ("big", "loading") for each in listed)

        await until(is_known)
        answer = await client.post(CHAT, json=chat("big"))
        assert answer.headers["x-ew-moved-by"] == "unavailable"
        assert [job.moved_from for job in done["small"]] == ["big"]
        await end_registration(db, "big", "here")
        await Heartbeats(db, HOSTS).leave("here")


async def test_without_anyone_who_falls_in_the_error_is_that_of_the_model(gateway: Gateway) -> None:
    async with client_of(gateway) as client, answering(gateway):
        answer = await client.post(CHAT, json=chat("big"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_started")
        assert "`big`" in answer.json()["error"]["message"]


async def test_a_request_may_insist_on_the_model_that_it_names(gateway: Gateway) -> None:
    models = ("moved", "canary", "watched", "copier")
    async with client_of(gateway) as client, answering(gateway, *models) as done:
        named = {"x-ew-route": "none"}
        answer = await client.post(CHAT, json=chat("moved"), headers=named)
        assert (answer.status_code, answer.headers.get("x-ew-model")) == (200, None)
        await client.post(CHAT, json=chat("moved"))
        assert (len(done["moved"]), len(done["canary"])) == (1, 1)
        await client.post(CHAT, json=chat("watched"), headers=named)
        await client.post(CHAT, json=chat("watched"))
        await until(lambda: len(done["copier"]) == 1)
        odd = await client.post(CHAT, json=chat("moved"), headers={"x-ew-route": "canary"})
        assert odd.status_code == 400
        assert "X-EW-Route" in odd.json()["error"]["message"]
    async with client_of(gateway) as client, answering(gateway, "small"):
        answer = await client.post(CHAT, json=chat("big"), headers=named)
        assert answer.json()["error"]["code"] == "model_not_started"


async def test_a_request_goes_only_to_a_model_that_can_take_it(gateway: Gateway) -> None:
    async with client_of(gateway) as client, answering(gateway, "short", "small") as done:
        await client.post(CHAT, json=chat("picky", max_tokens=5))
        await client.post(CHAT, json=chat("picky", max_tokens=6))
        # The estimate of a prompt: a quarter of its bytes, in a context of 4096 tokens.
        long = await client.post(CHAT, json=chat("picky", "x" * 20_000))
        assert (len(done["short"]), len(done["small"])) == (1, 1)
        assert long.json()["error"]["code"] == "model_not_started"


async def test_a_queue_that_is_too_long_sends_requests_elsewhere(gateway: Gateway) -> None:
    async with (
        client_of(gateway) as client,
        ScriptedWorker(gateway.redis_url, "busy") as busy,
        ScriptedWorker(gateway.redis_url, "small") as small,
    ):
        await busy.take_none()
        await until_known(client, {"busy", "small"})
        asking = [asyncio.create_task(client.post(CHAT, json=chat("busy"))) for _ in range(2)]
        await until_waiting(client, "busy", 2)
        asking += [asyncio.create_task(client.post(CHAT, json=chat("busy"))) for _ in range(3)]
        moved = [await small.answer("x") for _ in range(3)]
        assert {each.job.moved_from for each in moved} == {"busy"}
        busy.takes = True
        own = [await busy.answer("x") for _ in range(2)]
        assert {each.job.moved_from for each in own} == {""}
        reasons = Counter([(await each).headers.get("x-ew-moved-by") for each in asking])
        assert reasons == {"queue": 3, None: 2}


async def test_shares_come_near_their_percentage_and_answers_keep_the_name(
    gateway: Gateway,
) -> None:
    async with client_of(gateway) as client, answering(gateway, "shared", "canary") as done:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat("shared")) for _ in range(60)))
        # Less than once in a million runs none of 60 belongs to a share of 20 %.
        assert 0 < len(done["canary"]) < 60
        assert {each.json()["model"] for each in answers} == {"shared"}
        moved = [each for each in answers if "x-ew-model" in each.headers]
        assert len(moved) == len(done["canary"])
        assert {each.headers["x-ew-moved-by"] for each in moved} == {"split"}
        listed = (await client.get("/api/v1/models")).json()["models"]
        assert next(each["split"] for each in listed if each["id"] == "shared") == {"canary": 20}
        counted = f"model='shared' process='0' reason='split' to='canary' {len(moved)}"
        # Of the next heartbeat.
        await until(partial(counts_move, client, counted))


async def counts_move(client: httpx.AsyncClient, counted: str) -> bool:
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    samples = next((each.samples for each in families if each.name == "ew_requests_moved"), [])
    rows = (
        " ".join(f"{name}={value!r}" for name, value in sorted(each.labels.items()))
        + f" {each.value:g}"
        for each in samples
    )
    return counted in rows


def test_shares_are_near_their_percentage_and_keep_what_they_had_as_they_grow() -> None:
    jobs = [Job(f"{number}", "m", Sampling(), prompt=f"{number}") for number in range(20_000)]
    small = SplitConfig(to={"a": 5.0, "b": 20.0}, by="request")
    paused = SplitConfig(to={"a": 0, "b": 25.0}, by="request")
    assert {share_of(job, paused) for job in jobs} == {"b", None}
    large = SplitConfig(to={"a": 10.0, "b": 20.0}, by="request")
    had = {job.id: share_of(job, small) for job in jobs}
    parts = Counter(had.values())
    # The standard deviations are 31 and 57.
    assert abs(parts["a"] - 1_000) < 150
    assert abs(parts["b"] - 4_000) < 280
    assert all(share_of(job, large) == "a" for job in jobs if had[job.id] == "a")


def test_the_requests_of_a_key_stay_together() -> None:
    split = SplitConfig(to={"a": 50.0}, by="key")
    jobs = [Job(f"{k}", "m", Sampling(), prompt=f"{k}", key_id=f"key{k % 20}") for k in range(200)]
    shares = {(job.key_id, share_of(job, split)) for job in jobs}
    assert len(shares) == 20
    assert {share for _, share in shares} == {"a", None}


async def test_a_conversation_stays_where_it_began(gateway: Gateway) -> None:
    async with client_of(gateway) as client, answering(gateway, "sticky", "canary"):
        first: dict[int, str | None] = {}
        for number in range(12):
            beginning = {"role": "user", "content": f"conversation {number}"}
            turns = [beginning]
            for _ in range(3):
                body = {"model": "sticky", "messages": turns}
                seen = (await client.post(CHAT, json=body)).headers.get("x-ew-model")
                assert first.setdefault(number, seen) == seen
                turns = [
                    *turns,
                    {"role": "assistant", "content": "x"},
                    {"role": "user", "content": "on"},
                ]
        assert set(first.values()) == {None, "canary"}


async def test_a_share_whose_model_is_away_stays_with_the_model_or_falls_back(
    gateway: Gateway,
) -> None:
    async with client_of(gateway) as client, answering(gateway, "moved", "small"):
        assert "x-ew-model" not in (await client.post(CHAT, json=chat("moved"))).headers
    async with client_of(gateway) as client, answering(gateway, "small"):
        assert (await client.post(CHAT, json=chat("moved"))).headers["x-ew-model"] == "small"


async def test_a_repeated_request_finds_its_answer_where_it_was_given(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "again"}
    async with client_of(gateway) as client, answering(gateway, "small"):
        first = await client.post(CHAT, json=chat("big"), headers=headers)
    # By now the model is there: but not for this request.
    async with client_of(gateway) as client, answering(gateway, "big", "small") as done:
        again = await client.post(CHAT, json=chat("big"), headers=headers)
        assert (first.json()["model"], again.json()["model"]) == ("small-1", "small-1")
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["x-ew-moved-by"] == "before"
        assert done == {"big": [], "small": []}


async def test_the_prompts_of_one_request_stay_together(gateway: Gateway) -> None:
    async with client_of(gateway) as client, answering(gateway, "sticky", "canary") as done:
        for number in range(8):
            prompts = [f"{number} {k}" for k in range(4)]
            await client.post("/v1/completions", json={"model": "sticky", "prompt": prompts})
            assert {len(jobs) % 4 for jobs in done.values()} == {0}
        assert all(done.values())


async def test_a_shadow_is_asked_the_same_and_its_client_sees_nothing_of_it(
    gateway: Gateway,
) -> None:
    async with (
        client_of(gateway) as client,
        ScriptedWorker(gateway.redis_url, "copier") as copier,
        answering(gateway, "watched", also="copier") as done,
    ):
        # The answers come though no copy has one; and no more than two copies are made.
        answers = [await client.post(CHAT, json=chat("watched", f"{k}")) for k in range(3)]
        assert [each.json()["choices"][0]["message"]["content"] for each in answers] == ["x"] * 3
        assert not any("x-ew-model" in each.headers for each in answers)
        copies = [await copier.start() for _ in range(2)]
        await copier.delta(copies[0], "of the copy")
        await copier.fail(copies[0], retryable=False)
        await copier.done(copies[1])
        for number, copy in enumerate(copies):
            job, own = copy.job, done["watched"][number]
            assert job.messages == own.messages
            assert (job.key_id, job.turn.priority) == ("shadow", "batch")
            assert job.id != own.id
            # Another key's prompts are apart in the cache, as they are without a copy.
            assert gateway.key.record.id in job.cache_salt
        # There is room again, and the one before was left out.
        await until_open(client, "copier", 0)
        await client.post(CHAT, json=chat("watched", "last"))
        last = await copier.answer("x")
        assert last.job.messages == done["watched"][3].messages


async def until_open(client: httpx.AsyncClient, model: str, count: int) -> None:
    """Return once so many answers of a model are open, as the gateway counts them."""

    async def are_open() -> bool:
        families = text_string_to_metric_families((await client.get("/metrics")).text)
        samples = next(each.samples for each in families if each.name == "ew_answers_open")
        return any(each.labels["model"] == model and each.value == count for each in samples)

    await until(are_open)


@asynccontextmanager
async def crowded(
    gateway: Gateway, *others: str
) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedWorker, ScriptedWorker]]:
    """A client; a worker of `slow` that takes nothing, and one of the first of `others`, which are
    there."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(gateway))
        slow, *rest = [
            await stack.enter_async_context(ScriptedWorker(gateway.redis_url, model))
            for model in ("slow", *others)
        ]
        await slow.take_none()
        await until_known(client, {"slow", *others})
        yield client, slow, rest[0]


async def test_a_request_that_has_waited_too_long_moves(gateway: Gateway) -> None:
    async with crowded(gateway, "small") as (client, slow, small):
        whole = asyncio.create_task(client.post(CHAT, json=chat("slow", max_tokens=9)))
        insists = {"x-ew-route": "none"}
        stays = asyncio.create_task(client.post(CHAT, json=chat("slow"), headers=insists))
        several = {"model": "slow", "prompt": ["a", "b"]}
        together = asyncio.create_task(client.post("/v1/completions", json=several))
        moved = await small.answer("x")
        assert (moved.job.model, moved.job.moved_from) == ("small", "slow")
        assert moved.job.sampling.max_tokens == 9
        answer = await whole
        assert (answer.json()["model"], answer.headers["x-ew-model"]) == ("small-1", "small")
        assert answer.headers["x-ew-moved-by"] == "wait"
        counted = "model='slow' process='0' reason='wait' to='small' 1"
        await until(partial(counts_move, client, counted))
        # Those that insist on it, and several of one request, wait on: more than twice as long.
        assert small.attempts.empty()
        slow.takes = True
        for _ in range(3):
            await slow.answer("y")
        assert (await stays).headers.get("x-ew-model") is None
        assert len((await together).json()["choices"]) == 2


async def test_a_request_that_nobody_can_take_waits_on_until_one_can(gateway: Gateway) -> None:
    async with crowded(gateway, "short") as (client, slow, short):
        # Its answer is too long for `short`, and `small` is not there.
        asking = asyncio.create_task(client.post(CHAT, json=chat("slow", max_tokens=6)))
        await slow.wait_for_waiting(1)
        later = asyncio.create_task(client.post(CHAT, json=chat("slow", max_tokens=5)))
        assert (await short.answer("x")).job.sampling.max_tokens == 5
        await later
        assert await count_waiting(slow.queue) == 1
        async with ScriptedWorker(gateway.redis_url, "small") as small:
            await small.answer("x")
            assert (await asking).headers["x-ew-moved-by"] == "wait"


async def test_a_request_that_was_begun_stays(gateway: Gateway) -> None:
    async with crowded(gateway, "small") as (client, slow, small):
        slow.takes = True
        asking = asyncio.create_task(client.post(CHAT, json=chat("slow")))
        attempt = await slow.start()
        await slow.take_none()
        later = asyncio.create_task(client.post(CHAT, json=chat("slow")))
        assert (await small.answer("x")).job.id != attempt.job.id
        await later
        await slow.delta(attempt, "x")
        await slow.done(attempt)
        assert (await asking).json()["model"] == "slow"


async def test_a_stream_that_moved_is_cancelled_where_it_went(gateway: Gateway) -> None:
    async with crowded(gateway, "small") as (client, _, small):

        async def begin() -> str:
            attempt = await small.start()
            await small.delta(attempt, "x")
            return attempt.job.id

        begun = asyncio.create_task(begin())
        body = chat("slow", stream=True)
        async with client.stream("POST", CHAT, json=body) as streamed:
            assert '"model":"small-1"' in await anext(streamed.aiter_lines())
            assert streamed.headers["x-ew-moved-by"] == "wait"
        await small.wait_for_cancellation(await begun, 5)


async def test_a_request_that_moved_comes_again_to_the_same_answer(gateway: Gateway) -> None:
    async with crowded(gateway, "small") as (client, _, small):
        headers = {"Idempotency-Key": "moved"}
        asking = asyncio.create_task(client.post(CHAT, json=chat("slow"), headers=headers))
        await small.answer("x")
        first = await asking
        again = await client.post(CHAT, json=chat("slow"), headers=headers)
        assert (again.json()["id"], again.json()["model"]) == (first.json()["id"], "small-1")
        assert again.headers["x-ew-moved-by"] == "before"
        assert small.attempts.empty()


async def test_a_background_job_moves_and_is_followed_and_cancelled_there(
    gateway: Gateway,
) -> None:
    async with crowded(gateway, "small") as (client, _, small):
        body = {"modelId": "slow", "prompt": "hello"}
        put = [(await client.post("/api/v1/jobs", json=body)).json()["id"] for _ in range(2)]
        attempts = [await small.start() for _ in put]
        await small.delta(attempts[0], "x")
        states = [(await client.get(f"/api/v1/jobs/{each}")).json()["state"] for each in put]
        assert states == ["running"] * 2
        assert (await client.delete(f"/api/v1/jobs/{put[1]}")).status_code == 200
        await until(lambda: len(small.cancelled) == 1)
        (cancelled,) = small.cancelled
        (other,) = (each for each in attempts if each.job.id != cancelled)
        await small.done(other)

        async def is_done() -> bool:
            return (await client.get(f"/api/v1/jobs/{put[0]}")).json()["state"] == "done"

        await until(is_done)


async def test_the_line_of_a_batch_that_moved_says_who_answers(gateway: Gateway) -> None:
    async with crowded(gateway, "small") as (client, _, small):
        line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": chat("slow")}
        form: Any = {"files": {"file": json.dumps(line)}, "data": {"purpose": "batch"}}
        given = {"endpoint": CHAT, "completion_window": "24h"}
        given["input_file_id"] = (await client.post("/v1/files", **form)).json()["id"]
        batch = (await client.post("/v1/batches", json=given)).json()
        assert (await small.answer("x")).job.moved_from == "slow"

        async def output() -> str | None:
            found = (await client.get(f"/v1/batches/{batch['id']}")).json()
            return found["output_file_id"] and found["model"]

        assert await until(output) == "small-1"
