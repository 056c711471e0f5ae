"""Tools and reasoning as the official client sends and reads them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from contract.asked import ToolCall, Tools
from contract.bus.claims import Ended
from contract.config import ModelConfig, WorkerSpec
from contract.messages import Delta, Done, ReasoningDelta, Started, ToolCallDelta
from gateway.api.openai.bodies import ChatCompletion, ChatCompletionChunk
from tests.engines.contract.harness import WorkerProcess
from tests.gateway.api.agents import ONE, SCHEMA
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Tells it.",
            "parameters": SCHEMA,
            "strict": True,
        },
    }
    for name in ("weather", "time")
]
ASKED: list[Any] = [{"role": "user", "content": "Weather and time in Köln?"}]
ANSWER = (
    ReasoningDelta("Two ", ONE),
    ReasoningDelta("calls.", ONE),
    Delta("I look.", ONE),
    ToolCallDelta("", b"", 0, None, 0, "call_a", "weather"),
    ToolCallDelta('{"city": ', ONE, 0, None, 0),
    ToolCallDelta('"Köln"}', ONE, 0, None, 0),
    ToolCallDelta("{}", ONE, 0, None, 1, "call_b", "time"),
    Done(("tool_calls",), 5, 6, 2, reasoning_tokens=2),
)


async def test_a_whole_answer_has_its_calls_and_its_reasoning(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(
        openai_client.chat.completions.create(
            model=model, messages=ASKED, tools=TOOLS, parallel_tool_calls=False
        )
    )
    attempt = await worker.next()
    await worker.say(attempt, Started(), *ANSWER)
    completion = await asking
    ChatCompletion.model_validate_json(completion.to_json())
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look."
    assert choice.message.reasoning == choice.message.reasoning_content == "Two calls."  # type: ignore[attr-defined]
    assert [
        (call.id, call.type, call.function.name, call.function.arguments)  # type: ignore[union-attr]
        for call in choice.message.tool_calls or ()
    ] == [
        ("call_a", "function", "weather", '{"city": "Köln"}'),
        ("call_b", "function", "time", "{}"),
    ]
    assert completion.usage is not None
    assert completion.usage.completion_tokens_details is not None
    assert completion.usage.completion_tokens_details.reasoning_tokens == 2
    tools = attempt.job.tools
    assert tools is not None
    assert json.loads(tools.definitions) == TOOLS
    assert (tools.choice, tools.name, tools.parallel) == ("auto", "", False)


async def test_a_stream_has_calls_and_reasoning_in_pieces(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    async def read() -> tuple[list[Any], Any]:
        async with openai_client.chat.completions.stream(
            model=model, messages=ASKED, tools=TOOLS
        ) as stream:
            events = [event async for event in stream]
            return events, await stream.get_final_completion()

    events, final = await worker.answered(read(), *ANSWER)
    message = final.choices[0].message
    assert final.choices[0].finish_reason == "tool_calls"
    assert message.content == "I look."
    assert [(call.id, call.function.name) for call in message.tool_calls] == [
        ("call_a", "weather"),
        ("call_b", "time"),
    ]
    assert message.tool_calls[0].function.parsed_arguments == {"city": "Köln"}
    chunks = [event.chunk for event in events if event.type == "chunk"]
    deltas = [each.choices[0].delta.to_dict() for each in chunks if each.choices]
    assert deltas[1] == {"reasoning": "Two ", "reasoning_content": "Two "}
    assert deltas[4]["tool_calls"] == [
        {
            "index": 0,
            "id": "call_a",
            "type": "function",
            "function": {"name": "weather", "arguments": ""},
        }
    ]
    assert deltas[5]["tool_calls"] == [{"index": 0, "function": {"arguments": '{"city": '}}]


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_is_left_out_where_the_request_says_so(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, stream: bool
) -> None:
    body = {"model": model, "messages": ASKED, "include_reasoning": False, "stream": stream}
    asking = client.post("/v1/chat/completions", json=body)
    response = await worker.answered(asking, *ANSWER[:3], Done(("stop",), 5, 3))
    assert "I look." in response.text
    assert "Two " not in response.text


@pytest.mark.parametrize("choice", ["required", "any"])
async def test_calls_alone_leave_the_content_null(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, choice: str
) -> None:
    body = {"model": model, "messages": ASKED, "tools": TOOLS, "tool_choice": choice}
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
    attempt = await worker.next()
    assert attempt.job.tools is not None
    assert attempt.job.tools.choice == "required"
    await worker.say(attempt, Started(), ANSWER[3], Done(("tool_calls",), 5, 6))
    message = (await asking).json()["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning" not in message


async def test_thoughts_alone_leave_the_content_null(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    """As in vLLM, where an answer ends before the model has done with thinking."""
    body = {"model": model, "messages": ASKED}
    asking = client.post("/v1/chat/completions", json=body)
    response = await worker.answered(asking, *ANSWER[:2], Done(("length",), 5, 2))
    message = response.json()["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == (None, "Two calls.")


async def test_a_stream_with_calls_resumes_after_any_event(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": ASKED, "tools": TOOLS, "stream": True}
    headers = {"idempotency_key": f"tools-{model}"}
    first = asyncio.create_task(collect(client, "/v1/chat/completions", body, **headers))
    attempt = await worker.next()
    await worker.say(attempt, Started(), *ANSWER)
    await worker.queue.complete(worker.name, [Ended(attempt, "done")])
    events = await first
    for event in events[1:-2]:
        ChatCompletionChunk.model_validate(event.json)
    again = await collect(client, "/v1/chat/completions", body, last_event_id="3", **headers)
    assert [each.data for each in again] == [each.data for each in events[5:]]


async def test_a_conversation_with_calls_goes_to_the_model(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    call: Any = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    messages: list[Any] = [
        *ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call],
            "reasoning_content": "Hm.",
            "annotations": [],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "noon"}]},
        {"role": "function", "name": "time", "content": "12"},
    ]
    asking = openai_client.chat.completions.create(
        model=model,
        messages=messages,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "time"}},
        reasoning_effort="low",
        extra_body={"chat_template_kwargs": {"date": "today"}},
    )
    job, _ = await worker.job_of(asking)
    assert job.messages is not None
    assert job.messages[1].tool_calls == (ToolCall("c1", "time", "{}"),)
    assert (job.messages[1].content, job.messages[1].reasoning) == ("", "Hm.")
    assert (job.messages[2].tool_call_id, job.messages[2].content) == ("c1", "noon")
    assert (job.messages[3].role, job.messages[3].name) == ("function", "time")
    assert isinstance(job.tools, Tools)
    assert (job.tools.choice, job.tools.name) == ("named", "time")
    assert job.template is not None
    assert json.loads(job.template.arguments) == {
        "date": "today",
        "reasoning_effort": "low",
        "enable_thinking": True,
    }


NAMED = {"type": "function", "function": {"name": "none"}}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": TOOLS, "tool_choice": NAMED}, "tool_choice.function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "some"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
    ],
)
async def test_what_is_wrong_with_tools_is_named(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, more: Any, param: str
) -> None:
    body = {"model": model, "messages": ASKED, **more}
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_the_native_api_tells_reasoning_apart(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"modelId": model, "prompt": "x"}
    done = Done(("stop",), 5, 6, reasoning_tokens=2)
    asking = client.post("/api/v1/inference", json=body)
    answer = (await worker.answered(asking, *ANSWER[:3], done)).json()
    assert (answer["text"], answer["reasoning"]) == ("I look.", "Two calls.")
    assert answer["usage"]["reasoningTokens"] == 2
    reading = collect(client, "/api/v1/inference/stream", body)
    events = await worker.answered(reading, *ANSWER[:3], done)
    assert [event.json for event in events[:3]] == [
        {"reasoning": "Two "},
        {"reasoning": "calls."},
        {"text": "I look."},
    ]


async def test_the_whole_path_from_the_client_to_an_engine_and_back(
    openai_client: openai.AsyncOpenAI,
    gateway: Gateway,
    model: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    config = ModelConfig(engine="mock", model_path="none")
    spec = WorkerSpec(
        name=f"{model}-1", model_id=model, model=config, engine="mock", env="-", redis_url=redis_url
    )
    worker = WorkerProcess(spec, sys.executable, {}, tmp_path / "worker.log")
    try:
        await worker.wait_until_ready(30)
        gateway.wait_until_ready()
        asked: list[Any] = [{"role": "user", "content": "[[think=2]] [[calls=2]]"}]
        async with openai_client.chat.completions.stream(
            model=model, messages=asked, tools=TOOLS
        ) as stream:
            final = await stream.get_final_completion()
        embedded = await openai_client.embeddings.create(model=model, input="abc")
    finally:
        worker.kill()
    choice = final.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.reasoning == "0 1 "  # type: ignore[attr-defined]
    assert [
        (call.function.name, call.function.parsed_arguments)
        for call in choice.message.tool_calls or ()
    ] == [("weather", {"call": 0}), ("time", {"call": 1})]
    assert embedded.data[0].embedding == [3.0] * 4


FUNCTIONS: Any = [each["function"] for each in TOOLS]
CALLED: Any = {"name": "weather", "arguments": '{"city": "Köln"}'}


async def test_functions_are_called_as_their_clients_read_it(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(
        openai_client.chat.completions.create(
            model=model, messages=ASKED, functions=FUNCTIONS, function_call={"name": "weather"}
        )
    )
    attempt = await worker.next()
    await worker.say(attempt, Started(), *ANSWER)
    choice = (await asking).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.tool_calls is None
    assert choice.message.function_call is not None
    assert choice.message.function_call.to_dict() == CALLED
    tools = attempt.job.tools
    assert tools is not None
    assert json.loads(tools.definitions) == TOOLS
    assert (tools.choice, tools.name, tools.parallel) == ("named", "weather", False)


async def test_a_stream_has_the_one_function_that_is_called(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    async def read() -> list[ChatCompletionChunk]:
        stream = await openai_client.chat.completions.create(
            model=model, messages=ASKED, functions=FUNCTIONS, stream=True
        )
        return [ChatCompletionChunk.model_validate(chunk.to_dict()) async for chunk in stream]

    chunks = await worker.answered(read(), *ANSWER)
    pieces = [each.choices[0].delta.function_call for each in chunks]
    assert [(piece.name, piece.arguments) for piece in pieces if piece] == [
        ("weather", ""),
        (None, '{"city": '),
        (None, '"Köln"}'),
    ]
    assert all(each.choices[0].delta.tool_calls is None for each in chunks)
    assert chunks[-1].choices[0].finish_reason == "function_call"


async def test_functions_called_before_are_calls_of_tools_to_the_template(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    said = {"role": "assistant", "content": None, "function_call": CALLED}
    returned = {"role": "function", "name": "weather", "content": "rain"}
    body = {"model": model, "messages": [*ASKED, said, returned], "functions": FUNCTIONS}
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
    attempt = await worker.next()
    await worker.say(attempt, Started(), Delta("Rain.", ONE), Done(("stop",), 5, 1))
    assert (await asking).json()["choices"][0]["message"]["content"] == "Rain."
    _, call, result = attempt.job.messages or ()
    assert call.tool_calls == (ToolCall("call00001", CALLED["name"], CALLED["arguments"]),)
    assert (result.role, result.tool_call_id, result.content) == ("tool", "call00001", "rain")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": TOOLS}, "functions"),
        ({"function_call": {"name": "other"}}, "function_call.name"),
    ],
)
async def test_functions_that_cannot_be_meant_are_refused(
    client: httpx.AsyncClient, model: str, more: dict[str, Any], field: str
) -> None:
    body = {"model": model, "messages": ASKED, "functions": FUNCTIONS, **more}
    response = await client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)
