"""Turns: the fields of a request, and the bounds of its key."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest

from contract.asked import Turn
from contract.keys import make_key
from contract.messages import Started, Status
from tests.conftest import ValkeyServer
from tests.gateway.conftest import Gateway, served, stays_open
from tests.gateway.scripted_worker import ScriptedWorker, delta
from tests.gateway.sse_client import reading

INFER = "/api/v1/inference"
STREAM = "/api/v1/inference/stream"
CHAT = "/v1/chat/completions"
TALK = {"messages": [{"role": "user", "content": "x"}]}


async def turn_of(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, **body: Any
) -> Turn:
    """Return the turn of the job that a request makes; it is answered."""
    named = {"model": worker.model, **TALK}
    asking = {"modelId": worker.model, "prompt": "x"} if path == INFER else named
    answering = asyncio.create_task(worker.answer("hello"))
    response = await client.post(path, json={**asking, **body})
    assert response.status_code == 200, response.text
    return (await answering).job.turn


@pytest.mark.parametrize(
    ("path", "body", "turn"),
    [
        (INFER, {}, Turn()),
        (INFER, {"priorityClass": "batch", "priority": 7}, Turn("batch", 7)),
        (INFER, {"deadlineS": 2.5}, Turn(within_s=2.5)),
        (CHAT, {"priority": 3}, Turn(number=3)),
        (CHAT, {"priority_class": "batch", "deadline_s": 60}, Turn("batch", within_s=60)),
        (CHAT, {"service_tier": "flex"}, Turn("batch")),
        (CHAT, {"service_tier": "auto"}, Turn()),
        (CHAT, {"service_tier": "flex", "priority_class": "normal"}, Turn()),
    ],
)
async def test_a_request_says_when_its_turn_is(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, body: dict[str, Any], turn: Turn
) -> None:
    assert await turn_of(client, worker, path, **body) == turn


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (INFER, {"priorityClass": "interactive"}, "priorityClass"),
        (INFER, {"priority": -1}, "priority"),
        (CHAT, {"priority_class": "interactive"}, "priority_class"),
    ],
)
async def test_nobody_goes_before_what_the_key_may(
    client: httpx.AsyncClient, model: str, path: str, body: dict[str, Any], field: str
) -> None:
    asked = {"modelId": model, "prompt": "x"} if path == INFER else {"model": model, **TALK}
    response = await client.post(path, json={**asked, **body})
    assert response.status_code == 403
    error = response.json()
    error = error.get("error", error)
    assert (error["code"], error.get("field", error.get("param"))) == (
        "priority_not_allowed",
        field,
    )


@pytest.mark.parametrize("body", [{"priority": 101}, {"priorityClass": "urgent"}, {"deadlineS": 0}])
async def test_what_is_no_turn_is_refused(
    client: httpx.AsyncClient, model: str, body: dict[str, Any]
) -> None:
    response = await client.post(INFER, json={"modelId": model, "prompt": "x", **body})
    assert response.status_code == 422
    assert response.json()["field"] == next(iter(body))


async def test_a_key_has_a_class_a_lowest_number_and_a_weight(
    gateway: Gateway, worker: ScriptedWorker
) -> None:
    rights = {"weight": 2.5, "priority": "interactive", "lowest_priority": -10}
    key = make_key("vip", **rights)
    gateway.write_keys(gateway.key, key)
    headers = {"x-api-key": key.text}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client:
        turn = await turn_of(client, worker, INFER, priority=-10)
        assert turn == Turn("interactive", -10, 2.5)
        lower = await turn_of(client, worker, INFER, priorityClass="normal")
        assert lower == Turn("normal", 0, 2.5)


async def test_the_openai_client_sends_vllms_priority(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker
) -> None:
    answering = asyncio.create_task(worker.answer("hello"))
    await openai_client.chat.completions.create(
        model=worker.model,
        messages=[{"role": "user", "content": "x"}],
        service_tier="flex",
        extra_body={"priority": 5},
    )
    assert (await answering).job.turn == Turn("batch", 5)


async def test_a_deadline_ends_the_wait_for_a_turn(
    client: httpx.AsyncClient, redis_url: str, model: str
) -> None:
    async with ScriptedWorker(redis_url, model) as worker:
        worker.takes = False
        body = {"modelId": model, "prompt": "x", "deadlineS": 0.3}
        response = await client.post(INFER, json=body)
        assert (response.status_code, response.json()["code"]) == (504, "queue_timeout")


async def test_a_client_whose_job_made_room_waits_on_and_loses_nothing(
    new_gateway: Any, own_valkey: ValkeyServer
) -> None:
    """It is told that it waits, and the time is not counted as a silence of its worker."""
    limits = {"token_gap_timeout_s": 0.4, "queue_timeout_s": 20}
    gateway = new_gateway(own_valkey.url, limits=limits)
    asked = {"modelId": "m", "prompt": "x", "priorityClass": "batch"}
    async with served(gateway) as (worker, client), reading(client, STREAM, asked) as answer:
        attempt = await worker.start()
        await worker.take_none()
        await worker.say(attempt, delta("a "), Status("waiting for its turn again"))
        assert await worker.queue.yield_place(worker.name, attempt)
        await answer.has("a ")
        await stays_open(answer.task, 2 * limits["token_gap_timeout_s"])
        worker.takes = True
        again = await worker.next()
        assert (again.job.id, again.ordinal) == (attempt.job.id, 2)
        await worker.say(again, Started(), delta("b"))
        await worker.done(again)
        events = await answer.whole()
    texts = [each.json.get("text") for each in events if not each.name]
    assert "".join(filter(None, texts)) == "a b"
    assert "status" in [each.name for each in events]
