"""LoRA adapters, as clients see them: models with names of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from contract.config import ConfigError, load_config
from contract.keys import make_key
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker

ID = "org/base"
MODELS: dict[str, Any] = {
    ID: {
        "engine": "mock",
        "model_path": "none",
        "aliases": ["b"],
        "served_model_name": "served",
        "adapters": {"support": "adapters/support", "org/legal": "adapters/legal"},
    }
}
ASKED = [{"role": "user", "content": "hi"}]


@pytest.fixture
def gateway(redis_url: str, new_gateway: Callable[..., Gateway]) -> Gateway:
    return new_gateway(redis_url, models=MODELS)


async def test_an_adapter_is_asked_for_by_its_name_in_both_apis(
    gateway: Gateway, redis_url: str
) -> None:
    async with ScriptedWorker(redis_url, ID) as worker, client_of(gateway) as client:

        async def adapter_of(path: str, body: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
            asking = asyncio.create_task(client.post(path, json=body))
            job = (await worker.answer("yes")).job
            assert job.model == ID
            return job.adapter, (await asking).json()

        for name in MODELS[ID]["adapters"]:
            adapter, chat = await adapter_of(
                "/v1/chat/completions", {"model": name, "messages": ASKED}
            )
            assert (adapter, chat["model"]) == (name, name)
            adapter, text = await adapter_of("/v1/completions", {"model": name, "prompt": "hi"})
            assert (adapter, text["model"]) == (name, name)
            adapter, own = await adapter_of("/api/v1/inference", {"modelId": name, "prompt": "hi"})
            assert (adapter, own["modelId"]) == (name, name)
        for name in (ID, "b"):
            adapter, own = await adapter_of("/api/v1/inference", {"modelId": name, "prompt": "hi"})
            assert (adapter, own["modelId"]) == (None, "served")


async def test_adapters_are_listed_with_their_model(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [(each["id"], each["root"], each["parent"]) for each in listed] == [
            *((name, ID, None) for name in (ID, "served", "b")),
            *((name, name, ID) for name in ("support", "org/legal")),
        ]
        own = (await client.get("/api/v1/models")).json()["models"]
        assert [(each["id"], each["aliases"], each["parent"]) for each in own] == [
            (ID, ["served", "b"], None),
            ("support", [], ID),
            ("org/legal", [], ID),
        ]
        found = (await client.get("/v1/models/org/legal")).json()
        assert (found["id"], found["parent"]) == ("org/legal", ID)


@pytest.mark.parametrize(
    ("scope", "opens"),
    [
        ("support", ["support"]),
        (ID, [ID, "served", "b"]),
        ("b", [ID, "served", "b"]),
        ("org/*", [ID, "served", "b", "org/legal"]),
        ("other", []),
    ],
)
async def test_a_key_opens_an_adapter_by_its_name_alone(
    gateway: Gateway, scope: str, opens: list[str]
) -> None:
    key = make_key(models=(scope,))
    gateway.write_keys(gateway.key, key)
    gateway.key = key
    headers = {"X-API-Key": key.text}
    gateway.wait_until(
        lambda: httpx.get(f"{gateway.url}/v1/models", headers=headers).is_success, 40
    )
    async with client_of(gateway) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [each["id"] for each in listed] == opens
        for name in (ID, "served", "b", "support", "org/legal"):
            body = {"model": name, "messages": ASKED}
            answer = await client.post("/v1/chat/completions", json=body)
            # Its parts are not started here.
            assert answer.status_code == (503 if name in opens else 404)
            assert (await client.get(f"/v1/models/{name}")).is_success is (name in opens)


async def test_one_key_for_a_model_and_its_adapter_is_a_conflict(
    gateway: Gateway, redis_url: str
) -> None:
    headers = {"Idempotency-Key": "once"}
    async with ScriptedWorker(redis_url, ID) as worker, client_of(gateway) as client:
        body = {"modelId": ID, "prompt": "hi"}
        asking = asyncio.create_task(client.post("/api/v1/inference", json=body, headers=headers))
        await worker.answer("from the model")
        assert (await asking).json()["text"] == "from the model"
        body = {"modelId": "support", "prompt": "hi"}
        other = await client.post("/api/v1/inference", json=body, headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"a": {"adapters": {"a": "x"}}}, "`a` is a name of both `a` and an adapter of `a`"),
        ({"a": {"adapters": {"b": "x"}}, "b": {}}, "both an adapter of `a` and `b`"),
        ({"a": {"adapters": {"c": "x"}}, "b": {"adapters": {"c": "y"}}}, "an adapter of `b`"),
        ({"a": {"adapters": {"c": "x"}}, "b": {"aliases": ["c"]}}, "an adapter of `a` and `b`"),
        ({"a": {"adapters": {"not a name": "x"}}}, "adapters"),
    ],
)
def test_a_name_is_of_one_model_or_one_adapter(
    tmp_path: Any, models: dict[str, Any], said: str
) -> None:
    entries = {name: {"model_path": "none", **entry} for name, entry in models.items()}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"models": entries}))
    with pytest.raises(ConfigError, match=said):
        load_config(path)
