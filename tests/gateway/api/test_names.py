"""A model with a `/` in its id, other names, and sampling of its own: as clients see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from contract.keys import make_key
from contract.messages import Sampling
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect
from tests.waiting import until

ID = "Qwen/Qwen2.5-7B-Instruct"
NAMES = [ID, "qwen", "gpt-4o", "team/best"]
ENTRY: dict[str, Any] = {
    "engine": "mock",
    "model_path": "none",
    "served_model_name": "qwen",
    "aliases": ["gpt-4o", "team/best"],
}
SAMPLING = {"temperature": 0.25, "top_p": 0.5, "max_tokens": 40, "stop": ["END"]}
ASKED = [{"role": "user", "content": "hi"}]


@pytest.fixture
def named(redis_url: str, new_gateway: Callable[..., Gateway]) -> Gateway:
    models = {ID: ENTRY | {"sampling": SAMPLING}, "other": {"engine": "mock", "model_path": "none"}}
    return new_gateway(redis_url, models=models)


async def test_every_name_reaches_the_model_and_answers_carry_one(
    named: Gateway, redis_url: str
) -> None:
    async with ScriptedWorker(redis_url, ID) as worker, client_of(named) as client:
        for name in NAMES:
            body = {"model": name, "messages": ASKED}
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            attempt = await worker.answer("yes")
            assert attempt.job.model == ID
            assert (await asking).json()["model"] == "qwen"
        streaming = asyncio.create_task(
            collect(client, "/v1/chat/completions", {**body, "stream": True})
        )
        await worker.answer("yes")
        assert {event.json["model"] for event in (await streaming)[:-1]} == {"qwen"}
        body = {"modelId": "team/best", "prompt": "hi"}
        native = asyncio.create_task(client.post("/api/v1/inference", json=body))
        await worker.answer("yes")
        assert (await native).json()["modelId"] == "qwen"
        for path, asked in (
            ("/v1/completions", {"prompt": "hi"}),
            ("/chat/completions", {"messages": ASKED}),
            ("/v1/embeddings", {"input": "hi"}),
            ("/detokenize", {"tokens": [5]}),
        ):
            body = {"model": NAMES[-1], **asked}
            asking = asyncio.create_task(client.post(path, json=body))
            assert (await worker.answer()).job.model == ID
            assert (await asking).json().get("model", "qwen") == "qwen"
    headers = {"X-API-Key": named.key.text}
    series = f'model="{ID}",process="0",route="/v1/chat/completions",status="200"}} 5.0'

    def metrics() -> str:
        return httpx.get(f"{named.url}/metrics", headers=headers).text

    named.wait_until(lambda: series in metrics(), 40)
    assert "gpt-4o" not in metrics()


async def test_models_are_listed_and_found_by_every_name(named: Gateway) -> None:
    async with client_of(named) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [(each["id"], each["root"]) for each in listed] == [
            *((name, ID) for name in NAMES),
            ("other", "other"),
        ]
        native = (await client.get("/api/v1/models")).json()["models"]
        assert [(each["id"], each["aliases"]) for each in native] == [
            (ID, NAMES[1:]),
            ("other", []),
        ]
        for path in (ID, ID.replace("/", "%2F"), "gpt-4o"):
            found = await client.get(f"/v1/models/{path}")
            assert (found.status_code, found.json()["root"]) == (200, ID)
        assert (await client.get("/v1/models/Qwen/other")).status_code == 404
        assert (await client.get("/v1/models/Qwen/")).status_code == 404


async def test_models_have_what_mistrals_clients_cannot_do_without(
    named: Gateway, redis_url: str
) -> None:
    worker = ScriptedWorker(redis_url, ID)
    worker.takes_media = ("image",)
    async with worker, client_of(named) as client:

        async def seeing() -> Any:
            shown = (await client.get(f"/v1/models/{ID}")).json()
            return shown["capabilities"]["vision"] and shown

        shown = await until(seeing)
        other = (await client.get("/v1/models/other")).json()
    assert (shown["type"], other["type"]) == ("base", "base")
    assert shown["max_context_length"] == shown["max_model_len"] > 0
    said = {"completion_chat": True, "function_calling": True, "audio": False}
    assert shown["capabilities"] == said | {"vision": True}
    assert other["capabilities"] == said | {"vision": False}


@pytest.mark.parametrize("scope", ["Qwen/*", "gpt-*", "team/best", "qwen", "*"])
def test_a_key_that_opens_one_name_opens_the_model(named: Gateway, scope: str) -> None:
    key = make_key(models=(scope,))
    named.write_keys(named.key, key)
    headers = {"X-API-Key": key.text}
    named.wait_until(
        lambda: httpx.get(f"{named.url}/v1/models", headers=headers).status_code == 200, 5
    )
    listed = httpx.get(f"{named.url}/v1/models", headers=headers).json()["data"]
    assert [each["id"] for each in listed if each["id"] != "other"] == NAMES
    assert httpx.get(f"{named.url}/v1/models/{ID}", headers=headers).status_code == 200


async def test_a_key_for_another_model_opens_none_of_the_names(named: Gateway) -> None:
    key = make_key(models=("other", "Qwen/Qwen3*"))
    named.write_keys(key)
    named.key = key
    named.wait_until(
        lambda: httpx.get(f"{named.url}/v1/models", headers={"X-API-Key": key.text}).is_success, 5
    )
    async with client_of(named) as client:
        for name in NAMES:
            body = {"model": name, "messages": ASKED}
            refused = await client.post("/v1/chat/completions", json=body)
            assert refused.status_code == 404
            assert refused.json()["error"]["code"] == "model_not_found"


async def test_the_configured_sampling_fills_what_a_request_leaves_open(
    named: Gateway, redis_url: str
) -> None:
    async with ScriptedWorker(redis_url, ID) as worker, client_of(named) as client:

        async def sampling_of(**asked: Any) -> Sampling:
            body = {"modelId": ID, "prompt": "hi", **asked}
            asking = asyncio.create_task(client.post("/api/v1/inference", json=body))
            attempt = await worker.answer("yes")
            assert (await asking).status_code == 200
            return attempt.job.sampling

        assert await sampling_of() == Sampling(
            temperature=0.25, top_p=0.5, max_tokens=40, stop=("END",)
        )
        assert await sampling_of(temperature=0, topP=1, maxTokens=7, stop=["x"]) == Sampling(
            temperature=0, top_p=1, max_tokens=7, stop=("x",)
        )
        assert (await sampling_of(minTokens=50)).max_tokens == 50


async def test_new_defaults_hold_at_once_and_make_no_repetition_another_request(
    named: Gateway, redis_url: str
) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"modelId": ID, "prompt": "hi"}
    async with ScriptedWorker(redis_url, ID) as worker, client_of(named) as client:
        asking = asyncio.create_task(client.post("/api/v1/inference", json=body, headers=headers))
        assert (await worker.answer("yes")).job.sampling.temperature == 0.25
        assert (await asking).json()["text"] == "yes"
        named.config["models"][ID]["sampling"] = {"temperature": 0.75}
        named.write_config()
        named.wait_until(lambda: named.log.read_text().count("models are now") == 1, 40)
        again = await client.post("/api/v1/inference", json=body, headers=headers)
        assert (again.status_code, again.json().get("text")) == (200, "yes"), again.text
        asking = asyncio.create_task(client.post("/api/v1/inference", json=body))
        assert (await worker.answer("yes")).job.sampling == Sampling(temperature=0.75)
        assert (await asking).status_code == 200


async def test_a_default_stays_within_the_limits(
    redis_url: str, new_gateway: Callable[..., Gateway]
) -> None:
    models = {"team/m": {"engine": "mock", "model_path": "none", "sampling": {"max_tokens": 500}}}
    gateway = new_gateway(redis_url, models=models, limits={"max_output_len": 100})
    async with ScriptedWorker(redis_url, "team/m") as worker, client_of(gateway) as client:
        body = {"model": "team/m", "messages": ASKED}
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        assert (await worker.answer("yes")).job.sampling.max_tokens == 100
        assert (await asking).status_code == 200


async def test_a_model_may_be_left_out_where_the_key_opens_one(
    named: Gateway, redis_url: str
) -> None:
    one = make_key(models=(ID,))
    named.write_keys(named.key, one)
    named.wait_until(
        lambda: httpx.get(f"{named.url}/v1/models", headers={"X-API-Key": one.text}).is_success, 5
    )
    headers = {"X-API-Key": one.text}
    async with ScriptedWorker(redis_url, ID) as worker, client_of(named) as client:
        bodies = {
            "/v1/chat/completions": {"messages": ASKED},
            "/v1/completions": {"prompt": "Who?", "model": None},
            "/v1/responses": {"input": "Who?", "store": False},
        }
        for path, body in bodies.items():
            job, response = await worker.job_of(client.post(path, json=body, headers=headers))
            assert (job.model, response.status_code) == (ID, 200)
            refused = await client.post(path, json=body)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "model"
            assert "2 models" in refused.json()["error"]["message"]
