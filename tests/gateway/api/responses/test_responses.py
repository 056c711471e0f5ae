"""OpenAI's Responses API as its official client sends and reads it. Every answer is held to that
client's own types."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from contract.asked import Guided, Template, ToolCall
from contract.bus.claims import Ended
from contract.messages import (
    ChatMessage,
    Delta,
    Done,
    ErrorCode,
    Event,
    Failed,
    PromptDelta,
    ReasoningDelta,
    Started,
    TokenLogprob,
    ToolCallDelta,
)
from gateway.api.responses.wire import ResponseShape, ResponseStream
from gateway.streams.answers import StreamAnswer
from gateway.streams.dialects import Timings
from tests.gateway.api.agents import ONE, SCHEMA, THOUGHT_WORDS_AND_CALL
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOLS: list[Any] = [
    {
        "type": "function",
        "name": "weather",
        "description": "Tells it.",
        "parameters": SCHEMA,
        "strict": True,
    },
    {
        "type": "namespace",
        "name": "home",
        "description": "Of the house.",
        "tools": [{"type": "function", "name": "lamp", "parameters": SCHEMA}],
    },
    {"type": "custom", "name": "patch", "description": "Takes a patch."},
]
ANSWER: tuple[Event, ...] = (
    *THOUGHT_WORDS_AND_CALL,
    ToolCallDelta("{}", ONE, 0, None, 1, "call_b", "home__lamp"),
    ToolCallDelta('{"input": "*** ', ONE, 0, None, 2, "call_c", "patch"),
    ToolCallDelta('a"}', ONE, 0, None, 2),
    Done(("tool_calls",), 5, 9, 2, reasoning_tokens=2),
)
OUTPUT = [
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Two calls."}]},
    {"type": "message", "content": [{"type": "output_text", "text": "I look."}]},
    {
        "type": "function_call",
        "call_id": "call_a",
        "name": "weather",
        "arguments": '{"city": "Köln"}',
    },
    {
        "type": "function_call",
        "call_id": "call_b",
        "name": "lamp",
        "namespace": "home",
        "arguments": "{}",
    },
    {"type": "custom_tool_call", "call_id": "call_c", "name": "patch", "input": "*** a"},
]
ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.reasoning_text.delta",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.output_item.done",
    "response.completed",
]


def shown(response: Response) -> list[dict[str, Any]]:
    """The items, as far as `OUTPUT` has them."""
    told = [item.model_dump(exclude_none=True) for item in response.output]
    for item in told:
        assert item.pop("id")
        assert item.pop("status", "completed") == "completed"
        item.pop("role", None)
        item.pop("parsed_arguments", None)
        item.pop("summary", None)
        for part in item.get("content", ()):
            part.pop("annotations", None)
            part.pop("logprobs", None)
    return told


async def streamed(client: openai.AsyncOpenAI, **asked: Any) -> Response:
    """Return the end of the official client's stream. Its `get_final_response` raises for an answer
    that is incomplete (3.57)."""
    async with client.responses.stream(**asked) as stream:
        async for event in stream:
            last = event
    response: Response = last.response  # type: ignore[union-attr]
    return response


async def test_a_stream_is_what_the_official_client_expects(
    openai_client: openai.AsyncOpenAI, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asked = {"model": model, "input": "hi", "tools": TOOLS}
    asking = collect(client, "/v1/responses", {**asked, "stream": True})
    events = await worker.answered(asking, *ANSWER)
    assert [event.name for event in events] == ORDER
    assert [event.json["sequence_number"] for event in events] == list(range(len(ORDER)))
    for event in events:
        EVENT.validate_python(event.json, strict=True)
        assert event.json["type"] == event.name
    assert events[-1].json["response"]["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    done = [event.json["item"] for event in events if event.name == "response.output_item.done"]
    assert done == events[-1].json["response"]["output"]
    final = await worker.answered(streamed(openai_client, **asked), *ANSWER)
    assert shown(final) == OUTPUT


async def test_a_whole_response_is_what_its_stream_adds_up_to(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = openai_client.responses.create(
        model=model,
        input="hi",
        instructions="be",
        tools=TOOLS,
        tool_choice={"type": "function", "name": "weather"},
        metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        user="u",
    )
    whole = await worker.answered(asking, *ANSWER)
    Response.model_validate(json.loads(whole.to_json()), strict=True)
    assert shown(whole) == OUTPUT
    assert whole.output_text == "I look."
    assert (whole.status, whole.metadata, whole.instructions) == ("completed", {"a": "b"}, "be")
    assert (whole.model, whole.user, whole.reasoning.effort) == (model, "u", "low")
    assert [tool.type for tool in whole.tools] == ["function", "namespace", "custom"]
    # As agents send it back.
    again = [{"role": "user", "content": "hi"}, *(each.to_dict() for each in whole.output)]
    again += [
        {"type": "function_call_output", "call_id": "call_a", "output": "rain"},
        {"type": "custom_tool_call_output", "call_id": "call_c", "output": "ok"},
    ]
    job, _ = await worker.job_of(openai_client.responses.create(model=model, input=again))
    assert job.messages == (
        ChatMessage("user", "hi"),
        ChatMessage(
            "assistant",
            "I look.",
            tool_calls=(
                ToolCall("call_a", "weather", '{"city": "Köln"}'),
                ToolCall("call_b", "home__lamp", "{}"),
                ToolCall("call_c", "patch", '{"input":"*** a"}'),
            ),
            reasoning="Two calls.",
        ),
        ChatMessage("tool", "rain", tool_call_id="call_a"),
        ChatMessage("tool", "ok", tool_call_id="call_c"),
    )


async def test_items_bring_tools_along(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    weather, home, _ = TOOLS
    items: list[Any] = [
        {"role": "user", "content": "hi"},
        {"type": "additional_tools", "role": "developer", "tools": [home]},
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{**weather, "description": "Tells more."}],
        },
    ]
    asked: Any = {"model": model, "input": items, "tools": [weather]}
    job, _ = await worker.job_of(openai_client.responses.create(**asked))
    assert job.messages == (ChatMessage("user", "hi"),)
    assert job.tools is not None
    told = [each["function"] for each in json.loads(job.tools.definitions)]
    assert [each["name"] for each in told] == ["weather", "home__lamp"]
    assert told[0]["description"] == "Tells more."
    whole = await worker.answered(openai_client.responses.create(**asked), *ANSWER)
    # Calls are told as of the tools that they are of.
    assert shown(whole)[2:4] == OUTPUT[2:4]
    many = [{**weather, "name": f"tool_{number}"} for number in range(300)]
    more = [{**weather, "name": f"more_{number}"} for number in range(300)]
    items.append({"type": "additional_tools", "role": "developer", "tools": more})
    with pytest.raises(openai.BadRequestError, match="more than 512"):
        await openai_client.responses.create(model=model, input=items, tools=many)


@pytest.mark.parametrize(
    ("done", "status", "reason"),
    [
        (Done(("stop",), 5, 1), "completed", None),
        (Done(("length",), 5, 1), "incomplete", "max_output_tokens"),
        (Done(("content_filter",), 5, 1), "incomplete", "content_filter"),
    ],
)
async def test_every_end_has_its_status(
    openai_client: openai.AsyncOpenAI,
    worker: ScriptedWorker,
    model: str,
    done: Done,
    status: str,
    reason: str | None,
) -> None:
    asked = {"model": model, "input": "hi"}
    for asking in (openai_client.responses.create(**asked), streamed(openai_client, **asked)):
        response = await worker.answered(asking, Delta("a", ONE), done)
        assert response.status == status
        assert (response.incomplete_details and response.incomplete_details.reason) == reason
        assert response.output[0].status == status
    nothing = await worker.answered(openai_client.responses.create(**asked), done)
    assert nothing.output_text == ""
    assert len(nothing.output) == 1


async def test_log_probabilities_and_reasoning_come_where_they_are_asked_for(
    openai_client: openai.AsyncOpenAI, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    chance = (TokenLogprob("a", -0.5, (("a", -0.5), ("b", -1.5))),)
    said = (ReasoningDelta("hm", ONE), Delta("a", ONE, 0, chance), Done(("stop",), 5, 2))
    asked: Any = {"model": model, "input": "hi", "include": ["message.output_text.logprobs"]}
    whole = await worker.answered(openai_client.responses.create(**asked, top_logprobs=2), *said)
    assert [each.token for each in whole.output[1].content[0].logprobs[0].top_logprobs] == [
        "a",
        "b",
    ]
    body = {**asked, "include_reasoning": False, "stream": True}
    events = await worker.answered(collect(client, "/v1/responses", body), *said)
    for event in events:
        EVENT.validate_python(event.json, strict=True)
        assert "reasoning_text" not in event.name
    delta = next(each.json for each in events if each.name == "response.output_text.delta")
    assert [each["token"] for each in delta["logprobs"]] == ["a"]
    assert delta["logprobs"][0]["top_logprobs"] == []


def message(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "input_text", "text": text} for text in texts]}


#: Fields of a request, and of the job that it becomes.
TRANSLATED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"instructions": "be", "input": [message("developer", "so"), message("user", "a", "b")]},
        {
            "messages": (
                ChatMessage("system", "be"),
                ChatMessage("developer", "so"),
                ChatMessage("user", "a\nb"),
            )
        },
    ),
    (
        {
            "input": [
                {"role": "user", "content": "a"},
                {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"},
                {
                    "type": "message",
                    "role": "assistant",
                    "status": "incomplete",
                    "content": [{"type": "output_text", "text": "It is", "annotations": []}],
                },
            ]
        },
        {
            "messages": (ChatMessage("user", "a"), ChatMessage("assistant", "It is")),
            "template": Template(
                "",
                add_generation_prompt=False,
                continue_final_message=True,
                system_first=True,
            ),
        },
    ),
    (
        {"reasoning": {"effort": "none"}},
        {
            "template": Template(
                '{"reasoning_effort":"none","enable_thinking":false}', system_first=True
            )
        },
    ),
    ({"tools": TOOLS, "tool_choice": "required"}, {"tools": ("required", "", 3)}),
    (
        {"tools": TOOLS, "tool_choice": {"type": "custom", "name": "patch"}},
        {"tools": ("named", "patch", 3)},
    ),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "name": "lamp"}},
        {"tools": ("named", "home__lamp", 3)},
    ),
    (
        {
            "tools": TOOLS,
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "weather"}],
            },
        },
        {"tools": ("required", "", 1)},
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
        {"guided": Guided("json", json.dumps(SCHEMA, separators=(",", ":")))},
    ),
    ({"text": {"format": {"type": "json_object"}}}, {"guided": Guided("json_object", "")}),
    ({"structured_outputs": {"choice": ["a"]}}, {"guided": Guided("choice", '["a"]')}),
    (
        {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 7, "truncation": "auto"},
        {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "truncate_prompt_tokens": -1},
    ),
]


@pytest.mark.parametrize(("more", "expected"), TRANSLATED)
async def test_a_request_becomes_a_job(
    client: httpx.AsyncClient,
    worker: ScriptedWorker,
    model: str,
    more: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    asking = client.post("/v1/responses", json={"model": model, "input": "hi", **more})
    job, response = await worker.job_of(asking)
    assert response.status_code == 200
    for name, value in expected.items():
        if name == "tools":
            assert job.tools is not None
            count = len(json.loads(job.tools.definitions))
            assert (job.tools.choice, job.tools.name, count) == value
        else:
            assert getattr(job if hasattr(job, name) else job.sampling, name) == value


#: A request of Codex 0.171, with its values shortened.
CODEX = {
    "input": [
        {"type": "message", "id": "msg_1", **message("developer", "<permissions>")},
        {"type": "message", "id": "msg_2", **message("user", "hi")},
    ],
    "tools": [
        {
            "type": "function",
            "name": "exec_command",
            "description": "Runs it.",
            "strict": False,
            "parameters": SCHEMA,
        },
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199-aa",
    "client_metadata": {"x": "y"},
}


async def test_what_codex_sends_is_answered_without_what_openai_would_run(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = client.post("/v1/responses", json={"model": model, **CODEX})
    job, response = await worker.job_of(asking)
    assert response.status_code == 200
    assert response.headers["x-ignored-fields"] == (
        "client_metadata, reasoning.summary, tools[].external_web_access, tools[].type=web_search"
    )
    assert job.tools is not None
    names = [tool["function"]["name"] for tool in json.loads(job.tools.definitions)]
    assert names == ["exec_command"]


IMAGE = {
    "role": "user",
    "content": [{"type": "input_image", "image_url": "data:image/png;base64,"}],
}
GRAMMAR = {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark"}}
#: Bodies that are not supported or wrong, and the field that the error names.
REFUSED = [
    ({"input": [IMAGE]}, "input[0]"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    ({"input": []}, "input"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"conversation": "c"}, "conversation"),
    ({"tools": [GRAMMAR]}, "tools[0]"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
    ({"background": True, "store": False}, None),
    ({"previous_response_id": "resp_a"}, "previous_response_id"),
]


@pytest.mark.parametrize(("more", "field"), REFUSED)
async def test_what_cannot_be_done_is_named(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, more: Any, field: str | None
) -> None:
    response = await client.post("/v1/responses", json={"model": model, "input": "hi", **more})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


async def test_two_constraints_are_both_named(client: httpx.AsyncClient, model: str) -> None:
    body = {"text": {"format": {"type": "json_object"}}, "structured_outputs": {"regex": "a"}}
    refused = await client.post("/v1/responses", json={"model": model, "input": "hi", **body})
    why = "`text.format` and `structured_outputs.regex` exclude each other"
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, why)


async def test_a_failure_is_an_error_before_the_first_event_and_an_end_after(
    openai_client: openai.AsyncOpenAI, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    lost = Failed(ErrorCode.ENGINE_LOST, "it broke", retryable=True)
    with pytest.raises(openai.InternalServerError, match="it broke"):
        await worker.answered(openai_client.responses.create(model=model, input="hi"), lost)
    body = {"model": model, "input": "hi", "stream": True}
    events = await worker.answered(collect(client, "/v1/responses", body), ANSWER[2], lost)
    EVENT.validate_python(events[-1].json, strict=True)
    assert events[-1].name == "response.failed"
    assert events[-1].json["sequence_number"] == len(events) - 1
    assert events[-1].json["response"]["error"] == {
        "code": "server_error",
        "message": "engine_lost: it broke",
    }


async def test_a_stream_resumes_after_any_event(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "input": "hi", "tools": TOOLS, "stream": True}
    headers = {"idempotency_key": f"responses-{model}"}
    first = asyncio.ensure_future(collect(client, "/v1/responses", body, **headers))
    attempt = await worker.next()
    await worker.say(attempt, Started(), *ANSWER)
    await worker.queue.complete(worker.name, [Ended(attempt, "done")])
    events = await first
    for number, event in enumerate(events):
        if event.id is not None and event.name != "response.completed":
            again = await collect(client, "/v1/responses", body, last_event_id=event.id, **headers)
            names = [each.name for each in events[number + 1 :]]
            assert [each.name for each in again] == names
            assert [each.data for each in again[:-1]] == [
                each.data for each in events[number + 1 : -1]
            ]


async def test_the_tokens_of_a_prompt_are_counted_as_it_would_be_asked(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = openai_client.responses.input_tokens.count(model=model, input="hi", tools=TOOLS)
    told = PromptDelta("", b"", prompt=ONE * 3)
    counted = await worker.answered(asking, told, Done(("stop",), 3, 0))
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 3)


class City(BaseModel):
    city: str


async def test_structured_output_is_parsed_by_the_official_client(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = openai_client.responses.parse(model=model, input="hi", text_format=City)
    said = (Delta('{"city": "Köln"}', ONE), Done(("stop",), 5, 1))
    assert (await worker.answered(asking, *said)).output_parsed == City(city="Köln")


async def test_the_official_client_reads_over_comments_among_events_with_ids() -> None:
    """It takes the empty line after a comment for an event, once it has seen an id."""
    begun = {"id": "resp_j", "object": "response", "created_at": 1, "model": "m", "output": []}
    shape = ResponseShape(begun, {}, shows_reasoning=True, with_others=False)
    answer = StreamAnswer(ResponseStream(shape, resumable=True), "r")
    for seq, text in enumerate("ab"):
        answer.delta(seq, Delta(text, ONE))
        answer.heartbeat()
    answer.done(2, Done(("stop",), 1, 2), Timings(0, 0, 0))
    sent = b"".join(answer.writer._parts)
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=sent))
    async with openai.AsyncOpenAI(
        api_key="k", base_url="http://m", http_client=httpx.AsyncClient(transport=transport)
    ) as client:
        response = await streamed(client, model="m", input="x")
    assert (response.status, response.output_text) == ("completed", "ab")
