"""Ollama's API, which is there only if it is switched on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from contract.messages import (
    Done,
    ErrorCode,
    Failed,
    ReasoningDelta,
    ToolCallDelta,
    VectorDelta,
)
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker, delta
from tests.waiting import until

ASKED = [{"role": "user", "content": "Who?"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
MODELS = {"org/m": {"engine": "mock", "model_path": "none", "aliases": ["short"]}}


@pytest.fixture(scope="module")
def own(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = {"models": MODELS, "gateway": {"processes": 1, "ollama": True}}
    gateway = Gateway(tmp_path_factory.mktemp("ollama"), redis_url, config)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture
async def ollama(own: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(own) as client:
        yield client


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[ScriptedWorker]:
    worker = ScriptedWorker(redis_url, "org/m")
    worker.takes_media = ("image",)
    async with worker:
        yield worker


async def lines_of(client: httpx.AsyncClient, path: str, **body: Any) -> list[Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_chat_is_streamed_in_lines(
    ollama: httpx.AsyncClient, served: ScriptedWorker
) -> None:
    options = {"num_predict": 9, "temperature": 0, "repeat_penalty": 1.5, "num_ctx": 99}
    body = {"model": "org/m:latest", "messages": ASKED, "options": options, "think": True}
    reading = asyncio.create_task(lines_of(ollama, "/api/chat", **body, format="json"))
    attempt = await served.start()
    job = attempt.job
    assert (job.sampling.max_tokens, job.sampling.repetition_penalty) == (9, 1.5)
    assert job.sampling.guided is not None
    assert job.template is not None
    assert json.loads(job.template.arguments) == {"enable_thinking": True}
    await served.say(attempt, ReasoningDelta("hm", b""), delta("I am"), delta("\u2028ew.\x85"))
    await served.say(attempt, Done(("length",), 5, 3))
    *pieces, last = await reading
    assert [each["message"].get("thinking", "") for each in pieces] == ["hm", "", ""]
    assert "".join(each["message"]["content"] for each in pieces) == "I am\u2028ew.\x85"
    assert not any(each["done"] for each in pieces)
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 3)
    assert all(last[name] >= 0 for name in last if name.endswith("_duration"))


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_come_whole_and_their_answers_are_matched(
    ollama: httpx.AsyncClient, served: ScriptedWorker, stream: bool
) -> None:
    call = {"function": {"name": "look", "arguments": {"at": 1}}}
    history = [
        *ASKED,
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "one", "tool_name": "look"},
        {"role": "tool", "content": "two", "tool_name": "look"},
    ]
    body = {"model": "short", "messages": history, "tools": [TOOL], "stream": stream}
    asking = asyncio.create_task(ollama.post("/api/chat", json=body))
    attempt = await served.start()
    turns = attempt.job.messages or ()
    assert [call.id for call in turns[1].tool_calls] == [turns[2].tool_call_id, "call_1"]
    assert (turns[3].tool_call_id, turns[3].name) == ("call_1", "look")
    begun = ToolCallDelta('{"at"', b"", 0, None, 0, "x", "look")
    await served.say(attempt, begun, ToolCallDelta(": 2}", b""), Done(("tool_calls",), 5, 3))
    answers = [json.loads(line) for line in (await asking).text.splitlines()]
    made = [call for each in answers for call in each["message"].get("tool_calls", [])]
    look = {"index": 0, "name": "look", "arguments": {"at": 2}}
    assert made == [{"id": "x", "function": look}]
    assert answers[-1]["done_reason"] == "stop"


@pytest.mark.parametrize("by", ["tool_call_id", "tool_name"])
async def test_tools_may_answer_in_another_order(
    ollama: httpx.AsyncClient, served: ScriptedWorker, by: str
) -> None:
    """As langchain-ollama 1.1 sends it (by ids), and Ollama's own client (by names)."""
    calls: list[dict[str, Any]] = [{"function": {"name": name}} for name in ("look", "hear")]
    if by == "tool_call_id":
        calls = [call | {"id": f"id_{call['function']['name']}"} for call in calls]
    answers = {"tool_call_id": ("id_hear", "id_look"), "tool_name": ("hear", "look")}[by]
    history = [*ASKED, {"role": "assistant", "content": "", "tool_calls": calls}]
    history += [{"role": "tool", "content": name, by: name} for name in answers]
    body = {"model": "short", "messages": history, "think": "max", "stream": False}
    asking = asyncio.create_task(ollama.post("/api/chat", json=body))
    job = (await served.answer("so")).job
    look, hear = (call.id for call in (job.messages or ())[1].tool_calls)
    assert [turn.tool_call_id for turn in (job.messages or ())[2:]] == [hear, look]
    assert job.template is not None
    assert json.loads(job.template.arguments)["reasoning_effort"] == "max"
    assert (await asking).json()["message"]["content"] == "so"


@pytest.mark.parametrize(
    ("path", "nothing", "said"),
    [
        ("/api/generate", {}, {"response": ""}),
        ("/api/chat", {"messages": []}, {"message": {"role": "assistant", "content": ""}}),
    ],
)
async def test_without_a_prompt_the_model_is_loaded_and_nothing_said(
    ollama: httpx.AsyncClient,
    served: ScriptedWorker,
    path: str,
    nothing: dict[str, Any],
    said: dict[str, Any],
) -> None:
    asking = asyncio.create_task(ollama.post(path, json={"model": "org/m", **nothing}))
    job = (await served.answer("Hello")).job
    assert job.sampling.max_tokens == 1
    answer = (await asking).json()
    assert answer.pop("created_at")
    assert answer == {"model": "org/m", "done": True, "done_reason": "load", **said}
    # That it shall go is told at once: a job would wait for an answer of this worker.
    left = await ollama.post(path, json={"model": "org/m", "keep_alive": 0, **nothing})
    assert (left.status_code, left.json()["done_reason"]) == (200, "unload")
    unknown = await ollama.post(path, json={"model": "other", "keep_alive": "0s", **nothing})
    assert unknown.status_code == 404


async def test_a_prompt_is_a_turn_or_taken_as_it_is(
    ollama: httpx.AsyncClient, served: ScriptedWorker
) -> None:
    body = {"model": "org/m", "prompt": "hi", "system": "Be brief.", "stream": False}
    asking = asyncio.create_task(ollama.post("/api/generate", json=body))
    job = (await served.answer("yes")).job
    assert [turn.content for turn in job.messages or ()] == ["Be brief.", "hi"]
    answer = (await asking).json()
    assert (answer["response"], answer["done"], answer["model"]) == ("yes", True, "org/m")
    reading = asyncio.create_task(
        lines_of(ollama, "/api/generate", **body | {"raw": True, "stream": None})
    )
    job = (await served.answer("y", "es")).job
    assert (job.prompt, job.messages) == ("hi", None)
    assert "".join(line["response"] for line in await reading) == "yes"


async def test_embeddings(ollama: httpx.AsyncClient, served: ScriptedWorker) -> None:
    body = {"model": "org/m", "input": ["a", "b"]}
    asking = asyncio.create_task(ollama.post("/api/embed", json=body))
    attempt = await served.start()
    assert attempt.job.pooling is not None
    vectors = (b"\0\0\x80?", b"\0\0\0@")
    said = (VectorDelta("", b"", 0, None, n, vector) for n, vector in enumerate(vectors))
    await served.say(attempt, *said, Done(("stop",), 2, 0))
    answer = (await asking).json()
    assert (answer["embeddings"], answer["prompt_eval_count"]) == ([[1.0], [2.0]], 2)


async def test_the_former_embeddings_are_of_one_text(
    ollama: httpx.AsyncClient, served: ScriptedWorker
) -> None:
    body = {"model": "short", "prompt": "a"}
    asking = asyncio.create_task(ollama.post("/api/embeddings", json=body))
    attempt = await served.start()
    assert attempt.job.pooling is not None
    assert attempt.job.pooling.inputs == ("a",)
    vector = VectorDelta("", b"", 0, None, 0, b"\0\0\x80?\0\0\0@")
    await served.say(attempt, vector, Done(("stop",), 1, 0))
    assert (await asking).json() == {"embedding": [1.0, 2.0]}


async def test_what_is_loaded_is_told(ollama: httpx.AsyncClient, redis_url: str) -> None:
    async def loaded() -> list[str]:
        return [each["name"] for each in (await ollama.get("/api/ps")).json()["models"]]

    async def are(expected: list[str]) -> bool:
        return await loaded() == expected

    async with ScriptedWorker(redis_url, "org/m"):
        await until(lambda: are(["org/m", "short"]))
    await until(lambda: are([]))


async def test_models_are_listed_and_shown(ollama: httpx.AsyncClient) -> None:
    listed = (await ollama.get("/api/tags")).json()["models"]
    assert [each["name"] for each in listed] == ["org/m", "short"]
    shown = (await ollama.post("/api/show", json={"model": "short"})).json()
    assert shown["details"]["format"] == "mock"
    assert (await ollama.get("/api/version")).json()["version"]
    missing = await ollama.post("/api/show", json={"model": "nothing"})
    assert (missing.status_code, missing.json()) == (404, {"error": "model 'nothing' not found"})


async def test_errors_are_ollamas_before_and_in_a_stream(
    ollama: httpx.AsyncClient, served: ScriptedWorker
) -> None:
    pictures = [{"role": "user", "content": "x", "images": ["aGk="]}]
    refused = await ollama.post("/api/chat", json={"model": "org/m", "messages": pictures})
    assert refused.status_code == 400
    assert "an image is not readable as PNG" in refused.json()["error"]
    reading = asyncio.create_task(lines_of(ollama, "/api/chat", model="org/m", messages=ASKED))
    attempt = await served.start()
    await served.say(attempt, delta("a"), Failed(ErrorCode.ENGINE_LOST, "gone"))
    assert (await reading)[-1] == {"error": "gone"}


async def test_it_is_off_unless_it_is_switched_on(client: httpx.AsyncClient) -> None:
    for path in ("/api/tags", "/api/version"):
        assert (await client.get(path)).status_code == 404
