"""Limits of keys over HTTP: headers, errors in each API's shape, and several gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import orjson
import pytest

from contract.keys import NewKey, make_key
from contract.limits import KeyLimits, LimitReached
from gateway.http.error_answers import OLLAMA, answer_error
from gateway.jobs.allowance import Quota, limit_error, quota_headers
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import count_waiting
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker

INFER = "/api/v1/inference"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
JOBS = "/api/v1/jobs"
TALK = {"messages": [{"role": "user", "content": "x" * 40}]}


class Limited:
    """A key with limits, at a gateway, and a worker that answers whatever comes."""

    def __init__(self, gateway: Gateway, worker: ScriptedWorker) -> None:
        self.gateway = gateway
        self.worker = worker
        self.model = worker.model

    def key(self, group: str = "", **limits: int) -> NewKey:
        key = make_key("limited", group=group, limits=KeyLimits(**limits))
        self.gateway.write_keys(self.gateway.key, key)
        return key

    async def ask(
        self, key: NewKey, path: str = INFER, *, answered: bool = True, **body: Any
    ) -> httpx.Response:
        named = {"modelId": self.model, "prompt": "x" * 40}
        if path == RESPONSES:
            named = {"model": self.model, "input": "x" * 40}
        elif path not in (INFER, JOBS):
            named = {"model": self.model, **TALK}
        headers = {"x-api-key": key.text}
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=30) as client:
            asking = asyncio.create_task(client.post(path, json=named | body, headers=headers))
            if answered:
                await self.worker.answer("hello")
            return await asking


@pytest.fixture
async def limited(gateway: Gateway, worker: ScriptedWorker) -> AsyncIterator[Limited]:
    yield Limited(gateway, worker)
    gateway.write_keys(gateway.key)


async def test_answers_tell_what_is_left_of_the_limits(limited: Limited) -> None:
    key = limited.key(requests_per_minute=60, tokens_per_minute=1000, tokens_per_day=5000)
    response = await limited.ask(key, CHAT, max_tokens=90)
    assert response.status_code == 200
    head = response.headers
    assert head["ratelimit-policy"] == (
        '"requests-per-minute";q=60;w=60, "tokens-per-minute";q=1000;w=60, '
        '"tokens-per-day";q=5000;w=86400'
    )
    assert head["ratelimit"] == (
        '"requests-per-minute";r=59;t=60, "tokens-per-minute";r=900;t=60, "tokens-per-day";r=4900'
    )
    told = {name: head[f"x-ratelimit-{name}"] for name in ("limit-requests", "remaining-tokens")}
    assert told == {"limit-requests": "60", "remaining-tokens": "900"}
    assert head["x-ratelimit-reset-requests"] == "60s"


async def test_a_key_without_limits_is_told_of_none(limited: Limited) -> None:
    response = await limited.ask(limited.gateway.key)
    assert not [name for name in response.headers if "ratelimit" in name]


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (INFER, {}, lambda body: body["code"] == "limit_reached" and body["retryable"]),
        (CHAT, {}, lambda body: body["error"]["code"] == "rate_limit_exceeded"),
        (RESPONSES, {}, lambda body: body["error"]["code"] == "rate_limit_exceeded"),
        (MESSAGES, {"max_tokens": 5}, lambda body: body["error"]["type"] == "rate_limit_error"),
    ],
)
async def test_a_request_above_a_limit_is_refused_in_the_apis_shape(
    limited: Limited, path: str, body: dict[str, Any], kind: Any
) -> None:
    key = limited.key(requests_per_minute=1)
    assert (await limited.ask(key, path, **body)).status_code == 200
    response = await limited.ask(key, path, answered=False, **body)
    assert response.status_code == 429
    assert kind(response.json()), response.text
    assert 55 <= int(response.headers["retry-after"]) <= 61
    assert response.headers["ratelimit"].startswith('"requests-per-minute";r=0;t=')
    if path != INFER:
        assert response.headers["x-should-retry"] == "true"


def test_ollamas_clients_are_told_so_too() -> None:
    error = limit_error(LimitReached("key:k", "requests_per_minute", 5, 5, 7))
    told = answer_error(error, "id", OLLAMA)
    assert (told.status, dict(told.headers)[b"retry-after"]) == (429, b"7")
    assert orjson.loads(told.body) == {
        "error": "this API key may have 5 requests a minute; ask again in 7 s"
    }


@pytest.mark.parametrize(
    ("path", "body", "taken"), [(JOBS, {}, 202), (RESPONSES, {"background": True}, 200)]
)
async def test_what_goes_on_in_the_background_counts(
    limited: Limited, path: str, body: dict[str, Any], taken: int
) -> None:
    key = limited.key(open_requests=1)
    first = await limited.ask(key, path, answered=False, **body)
    assert first.status_code == taken, first.text
    assert (await limited.ask(key, path, answered=False, **body)).status_code == 429
    assert (await limited.ask(key, answered=False)).status_code == 429
    await limited.worker.answer("hello")
    assert (await limited.ask(key)).status_code == 200


async def test_a_request_too_large_for_the_limit_is_not_to_be_sent_again(limited: Limited) -> None:
    key = limited.key(tokens_per_minute=50)
    response = await limited.ask(key, CHAT, answered=False, max_tokens=60)
    assert response.status_code == 429
    assert "retry-after" not in response.headers
    assert response.headers["x-should-retry"] == "false"
    assert "ask for fewer tokens" in response.json()["error"]["message"]
    assert (await limited.ask(key, CHAT, max_tokens=30)).status_code == 200


async def test_what_an_answer_did_not_take_is_free_again(limited: Limited) -> None:
    key = limited.key(tokens_per_minute=100)
    for _ in range(3):
        response = await limited.ask(key, CHAT, max_tokens=80)
        assert response.status_code == 200, response.text


async def test_the_openai_client_raises_its_rate_limit_error(limited: Limited) -> None:
    key = limited.key(open_requests=1)
    waiting = asyncio.create_task(limited.ask(key, CHAT, answered=False))
    attempt = await limited.worker.start()
    base_url = f"{limited.gateway.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=key.text, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(
                model=limited.model, messages=[{"role": "user", "content": "x"}]
            )
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "1"
    await limited.worker.delta(attempt, "hello")
    await limited.worker.done(attempt)
    assert (await waiting).status_code == 200


async def test_the_configuration_limits_keys_and_groups_over_several_gateways(
    new_gateway: Any, own_valkey: ValkeyServer
) -> None:
    limits = {"per_key": {"requests_per_minute": 3}, "groups": {"team": {"open_requests": 100}}}
    limits["groups"]["team"]["requests_per_minute"] = 4
    gateways = [new_gateway(own_valkey.url, limits=limits) for _ in range(2)]
    keys = [make_key(name, group="team") for name in "ab"]
    free = make_key("free", limits=KeyLimits(requests_per_minute=50))
    for gateway in gateways:
        gateway.write_keys(gateway.key, *keys, free)
    statuses = []
    async with ScriptedWorker(own_valkey.url, "m") as worker:
        for gateway in gateways:
            gateway.wait_until_ready()
        for number, key in enumerate([keys[0]] * 4 + [keys[1]] * 2 + [free] * 4):
            one = Limited(gateways[number % 2], worker)
            asking = asyncio.create_task(one.ask(key, answered=False))
            answering = asyncio.create_task(worker.answer("hello"))
            statuses.append((await asking).status_code)
            if statuses[-1] == 200:
                await answering
            else:
                answering.cancel()
                await asyncio.wait([answering])
    assert statuses == [200, 200, 200, 429, 200, 429, 200, 200, 200, 200]


def test_headers_are_structured_fields() -> None:
    found = {Quota("tokens-per-month", 7, None): -2, Quota("requests-per-minute", 5, 60, 60): 4}
    headers = dict(quota_headers(found))
    assert headers[b"ratelimit-policy"] == b'"tokens-per-month";q=7, "requests-per-minute";q=5;w=60'
    assert headers[b"ratelimit"] == b'"tokens-per-month";r=0, "requests-per-minute";r=4;t=60'
    assert quota_headers({}) == []


async def test_prompts_of_one_request_are_let_in_together_or_not_at_all(limited: Limited) -> None:
    key = limited.key(requests_per_minute=5)
    path, prompts = "/v1/completions", ["a", "b", "c"]
    headers = {"authorization": f"Bearer {key.text}"}
    async with httpx.AsyncClient(base_url=limited.gateway.url, headers=headers) as client:

        async def ask(**more: Any) -> httpx.Response:
            asked = {"model": limited.model, "prompt": prompts, "max_tokens": 5, **more}
            return await client.post(path, json=asked)

        asking = asyncio.create_task(ask())
        for _ in prompts:
            await limited.worker.answer("hello")
        answer = await asking
        assert answer.headers["ratelimit"] == '"requests-per-minute";r=2;t=60'
        for key_of_request in ({}, {"idempotency-key": "again"}):
            client.headers.update(key_of_request)
            refused = await ask()
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert await count_waiting(limited.worker.queue) == 0, "some were let in"
        client.headers["idempotency-key"] = "of-fewer"
        too_many = await ask(prompt=["x"] * 6)
        assert "ask for fewer prompts" in too_many.json()["error"]["message"]
        client.headers["idempotency-key"] = "of-two"
        asking = asyncio.create_task(ask(prompt=["d", "e"]))
        for _ in range(2):
            await limited.worker.answer("hello")
        assert (await asking).status_code == 200
        # The same request again costs nothing.
        assert (await ask(prompt=["d", "e"])).status_code == 200
