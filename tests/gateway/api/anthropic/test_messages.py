"""Anthropic's Messages API as its official client sends and reads it. Every answer is held to that
client's own types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from contract.asked import Guided, Template, ToolCall, Tools
from contract.bus.claims import Ended
from contract.messages import (
    ChatMessage,
    Delta,
    Done,
    ErrorCode,
    Event,
    Failed,
    PromptDelta,
    Started,
    ToolCallDelta,
)
from tests.gateway.api.agents import ONE, SCHEMA, THOUGHT_WORDS_AND_CALL
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ASKED: list[Any] = [{"role": "user", "content": "Weather and time in Köln?"}]
TOOLS: list[Any] = [
    {"name": name, "description": "Tells it.", "input_schema": SCHEMA}
    for name in ("weather", "time")
]
ANSWER: tuple[Event, ...] = (
    *THOUGHT_WORDS_AND_CALL,
    Delta("\n", ONE),
    ToolCallDelta("{}", ONE, 0, None, 1, "call_b", "time"),
    Done(("tool_calls",), 5, 9, 2, reasoning_tokens=2),
)
CONTENT = [
    {"type": "thinking", "thinking": "Two calls."},
    {"type": "text", "text": "I look."},
    {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Köln"}},
    {"type": "text", "text": "\n"},
    {"type": "tool_use", "id": "call_b", "name": "time", "input": {}},
]
#: By block: its start, pieces and stop; `signature_delta` is the last piece of thinking.
ORDER = [
    "message_start",
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_delta"),
    "content_block_stop",
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
    "message_delta",
    "message_stop",
]


@pytest.fixture
async def messages(gateway: Gateway) -> AsyncIterator[Any]:
    """`client.messages` of the official client."""
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, api_key=gateway.key.text, max_retries=0, timeout=30
    ) as client:
        yield client.messages


def contents(message: Message) -> list[dict[str, Any]]:
    """Return the blocks that are not None, without the signatures."""
    blocks = [block.model_dump(exclude_none=True) for block in message.content]
    return [{name: block[name] for name in block if name != "signature"} for block in blocks]


async def test_a_stream_is_what_the_official_client_expects(
    messages: Any, client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": ASKED, "tools": TOOLS, "max_tokens": 99, "stream": True}
    asking = collect(client, "/v1/messages?beta=true", body)
    events = await worker.answered(asking, *ANSWER)
    assert [event.name for event in events] == ORDER
    for event in events:
        EVENT.validate_python(event.json, strict=True)
        assert event.json["type"] == event.name
    indices = [event.json["index"] for event in events if event.name == "content_block_start"]
    assert indices == [0, 1, 2, 3, 4]
    assert events[4].json["delta"]["type"] == "signature_delta"
    assert events[-2].json["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2].json["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 2},
    }

    async def accumulated() -> Message:
        async with messages.stream(
            model=model, messages=ASKED, tools=TOOLS, max_tokens=99
        ) as stream:
            final: Message = await stream.get_final_message()
            return final

    final = await worker.answered(accumulated(), *ANSWER)
    assert contents(final) == CONTENT
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 9)


async def test_a_stream_begins_with_the_length_of_the_prompt(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": ASKED, "max_tokens": 9, "stream": True}
    for first, count in (([PromptDelta("", b"", count=5)], 5), ([], 0)):
        asking = asyncio.ensure_future(collect(client, "/v1/messages", body))
        attempt = await worker.next()
        assert attempt.job.counts_prompt
        ending = (Delta("Hi", ONE), Done(("stop",), 5, 1, 2))
        await worker.say(attempt, Started(), *first, *ending)
        events = await asking
        assert [event.name for event in events][:2] == ["message_start", "content_block_start"]
        assert events[0].json["message"]["usage"]["input_tokens"] == count
        assert events[-2].json["usage"]["input_tokens"] == 3
    # An answer without a word has its beginning with its end, when the count is known.
    asking = collect(client, "/v1/messages", body)
    assert (await worker.answered(asking, Done(("stop",), 5, 0)))[0].json["message"]["usage"][
        "input_tokens"
    ] == 5


async def test_a_whole_message_is_what_its_stream_adds_up_to(
    messages: Any, worker: ScriptedWorker, model: str
) -> None:
    asking = messages.create(model=model, messages=ASKED, tools=TOOLS, max_tokens=99)
    message = await worker.answered(asking, *ANSWER)
    Message.model_validate(message.model_dump(warnings=False), strict=True)
    assert contents(message) == CONTENT
    assert message.model == model
    assert message.stop_reason == "tool_use"
    assert message.content[0].signature
    assert message._request_id
    # As the client sends it back.
    again = [*ASKED, message.to_param(), {"role": "user", "content": "go on"}]
    asking = messages.create(model=model, messages=again, tools=TOOLS, max_tokens=9)
    job, _ = await worker.job_of(asking)
    assert job.messages is not None
    told = job.messages[1]
    assert (told.reasoning, told.content) == ("Two calls.", "I look.\n\n")
    assert [call.name for call in told.tool_calls] == ["weather", "time"]


#: The end of an answer, its stop reason, and its stop sequence.
ENDS = [
    (Done(("stop",), 5, 1), "end_turn", None),
    (Done(("length",), 5, 1), "max_tokens", None),
    (Done(("content_filter",), 5, 1), "refusal", None),
    (Done(("stop",), 5, 1, stop_strings=("END",)), "stop_sequence", "END"),
]


@pytest.mark.parametrize(("done", "reason", "stop"), ENDS)
async def test_every_end_has_its_stop_reason(
    messages: Any, worker: ScriptedWorker, model: str, done: Done, reason: str, stop: str | None
) -> None:
    asking = messages.create(model=model, messages=ASKED, max_tokens=9, stop_sequences=["END"])
    message = await worker.answered(asking, Delta("a", ONE), done)
    assert (message.stop_reason, message.stop_sequence) == (reason, stop)


async def test_a_call_of_the_named_tool_ends_as_a_use_of_it_and_nothing_is_a_block_of_text(
    messages: Any, worker: ScriptedWorker, model: str
) -> None:
    choice = {"type": "tool", "name": "time", "disable_parallel_tool_use": True}
    asked = {"model": model, "messages": ASKED, "max_tokens": 9}
    asking = messages.create(**asked, tools=TOOLS, tool_choice=choice)
    broken = ToolCallDelta('{"a', ONE, 0, None, 0, "call_a", "time")
    message = await worker.answered(asking, broken, Done(("stop",), 5, 1))
    assert message.stop_reason == "tool_use"
    assert message.content[0].input == {"INVALID_JSON": '{"a'}
    message = await worker.answered(messages.create(**asked), Done(("stop",), 5, 0))
    assert contents(message) == [{"type": "text", "text": ""}]
    asking = collect_stream(messages, **asked)
    assert contents(await worker.answered(asking, Done(("stop",), 5, 0))) == contents(message)


async def collect_stream(api: Any, **asked: Any) -> Message:
    async with api.stream(**asked) as stream:
        final: Message = await stream.get_final_message()
        return final


def text(*said: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": each} for each in said]


USER = ChatMessage("user", "hi")
#: Fields of a request beside `hi`, and of the job that it becomes.
TRANSLATED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"system": "be"}, {"messages": (ChatMessage("system", "be"), USER)}),
    (
        {"system": [*text("x-anthropic-billing-header: cc_version=1"), *text("be", "so")]},
        {"messages": (ChatMessage("system", "be\nso"), USER)},
    ),
    (
        {"messages": [*ASKED, {"role": "user", "content": text("a", "b")}]},
        {"messages": (ChatMessage("user", "Weather and time in Köln?\na\nb"),)},
    ),
    (
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "system", "content": "now so"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "xx"},
                        {"type": "tool_use", "id": "c", "name": "time", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c", "content": text("12", "h")},
                        {"type": "text", "text": "and?"},
                    ],
                },
            ]
        },
        {
            "messages": (
                USER,
                ChatMessage("system", "now so"),
                ChatMessage(
                    "assistant", "", tool_calls=(ToolCall("c", "time", '{"a":1}'),), reasoning="hm"
                ),
                ChatMessage("tool", "12\nh", tool_call_id="c"),
                ChatMessage("user", "and?"),
            )
        },
    ),
    (
        {"messages": [*ASKED, {"role": "assistant", "content": "It is"}]},
        {"template": Template("", add_generation_prompt=False, continue_final_message=True)},
    ),
    (
        {"thinking": {"type": "disabled"}},
        {"template": Template('{"reasoning_effort":"none","enable_thinking":false}')},
    ),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"template": Template('{"enable_thinking":true}')},
    ),
    (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"template": Template('{"reasoning_effort":"high","enable_thinking":true}')},
    ),
    ({"tools": TOOLS, "tool_choice": {"type": "any"}}, {"tools": ("required", "", True)}),
    ({"tools": TOOLS, "tool_choice": {"type": "none"}}, {"tools": ("none", "", True)}),
    (
        {
            "tools": TOOLS,
            "tool_choice": {"type": "tool", "name": "time", "disable_parallel_tool_use": True},
        },
        {"tools": ("named", "time", False)},
    ),
    ({"tools": TOOLS}, {"tools": ("auto", "", True)}),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"guided": Guided("json", '{"type":"object","properties":{"city":{"type":"string"}}}')},
    ),
    (
        {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["a"], "max_tokens": 7},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ("a",), "max_tokens": 7},
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
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        **more,
    }
    job, response = await worker.job_of(client.post("/v1/messages", json=body))
    assert response.status_code == 200
    for name, value in expected.items():
        if name == "tools":
            assert job.tools is not None
            assert (job.tools.choice, job.tools.name, job.tools.parallel) == value
        elif name == "template":
            assert job.template is not None
            assert job.template == Template(
                value.arguments,
                value.add_generation_prompt,
                value.continue_final_message,
                system_first=True,
            )
        else:
            found = job if hasattr(job, name) else job.sampling
            assert getattr(found, name) == value


#: A request of Claude Code 2.1.332, with its values shortened.
CLAUDE_CODE = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>x</system-reminder>"},
                {"type": "text", "text": "hi"},
            ],
        },
        {
            "role": "system",
            "content": [
                {"type": "text", "text": "so", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.0; cch=00000;"},
        {
            "type": "text",
            "text": "You are Claude Code.",
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
    ],
    "tools": [
        {
            "name": "Bash",
            "description": "Runs it.",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"command": {"type": "string"}},
                "required": ["command"],
                "additionalProperties": False,
            },
        },
        {"name": "Later", "description": "-", "input_schema": SCHEMA, "defer_loading": True},
    ],
    "metadata": {"user_id": "user_1_account__session_2"},
    "max_tokens": 32000,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stream": True,
}


async def test_what_claude_code_sends_is_answered(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    headers = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,mid-conversation-tool-changes-2026-07-01",
        "x-app": "cli",
    }
    body = {"model": model, **CLAUDE_CODE}
    asking = client.post("/v1/messages?beta=true", json=body, headers=headers)
    job, response = await worker.job_of(asking)
    assert response.status_code == 200
    assert response.headers["x-ignored-fields"] == "context_management, thinking.display"
    assert job.sampling.max_tokens == 1000
    assert job.messages is not None
    assert job.messages[0] == ChatMessage("system", "You are Claude Code.")
    assert job.messages[2] == ChatMessage("system", "so")
    assert isinstance(job.tools, Tools)
    assert json.loads(job.tools.definitions)[0]["function"]["name"] == "Bash"


async def test_a_conversation_adds_and_removes_tools(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    """As Claude Code has it, for tools that it finds on the way."""

    def change(kind: str, **tool: Any) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": kind, "tool": tool}]}

    added = {"name": "added", "input_schema": SCHEMA}
    messages = [
        *ASKED,
        change("tool_removal", type="tool_reference", name="weather"),
        change("tool_removal", type="tool_reference", name="time"),
        change("tool_addition", type="tool_reference", name="time"),
        change("tool_addition", type="tool_definition", definition=added),
    ]
    body = {"model": model, "messages": messages, "tools": TOOLS, "max_tokens": 9}
    job, response = await worker.job_of(client.post("/v1/messages", json=body))
    assert response.status_code == 200
    assert job.messages == (ChatMessage("user", ASKED[0]["content"]),)
    assert isinstance(job.tools, Tools)
    told = [tool["function"]["name"] for tool in json.loads(job.tools.definitions)]
    assert told == ["time", "added"]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
#: Bodies that are not supported or wrong, and words of the error.
REFUSED = [
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "an image is not readable as PNG"),
    ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "`tools[0]`: tools of type web"),
    ({"tools": [{"name": "w"}]}, "`tools[0]`: needs `input_schema`"),
    ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "x"}}, "`tool_choice.name`: `x` is"),
    ({"tool_choice": {"type": "any"}}, "`tool_choice`: needs `tools`"),
    ({"mcp_servers": [{"url": "http://x"}]}, "`mcp_servers`: not supported"),
    ({"container": "c"}, "`container`: not supported"),
    ({"max_tokens": None}, "`max_tokens`: "),
    ({"thinking": {"type": "deep"}}, "`thinking.type`: "),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "needs `tool_use_id`"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED)
async def test_what_cannot_be_done_is_named(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, more: Any, said: str
) -> None:
    body = {"model": model, "messages": ASKED, "max_tokens": 9, **more}
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 400
    error = response.json()
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert said in error["error"]["message"]
    assert error["request_id"] == response.headers["request-id"]


async def test_the_tokens_of_a_prompt_are_counted_as_it_would_be_asked(
    messages: Any, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.ensure_future(
        messages.count_tokens(model=model, messages=ASKED, system="be", tools=TOOLS)
    )
    attempt = await worker.next()
    told = PromptDelta("", b"", prompt=ONE * 3)
    await worker.say(attempt, Started(), told, told, Done(("stop",), 6, 0))
    assert (await asking).input_tokens == 6
    job = attempt.job
    assert job.messages is not None
    assert [message.role for message in job.messages] == ["system", "user"]
    assert job.report is not None
    assert (job.report.only, job.tools is None) == (True, False)


async def test_errors_are_the_exceptions_of_the_official_client(
    gateway: Gateway, messages: Any, worker: ScriptedWorker, model: str
) -> None:
    asked = {"messages": ASKED, "max_tokens": 9}
    with pytest.raises(anthropic.NotFoundError, match="there is no model"):
        await messages.create(model="none", **asked)
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="no") as stranger:
        with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
            await stranger.messages.create(model=model, **asked)
    long = Failed(ErrorCode.PROMPT_TOO_LONG, "the prompt has 9 tokens")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: the prompt has 9"):
        await worker.answered(messages.create(model=model, **asked), long)
    broken = (Delta("a", ONE), Failed(ErrorCode.ENGINE_LOST, "it broke", retryable=True))
    with pytest.raises(anthropic.APIStatusError, match=r"overloaded_error.*it broke"):
        await worker.answered(collect_stream(messages, model=model, **asked), *broken)


async def test_a_stream_resumes_after_any_event(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": ASKED, "tools": TOOLS, "max_tokens": 99, "stream": True}
    headers = {"idempotency_key": f"messages-{model}"}
    first = asyncio.ensure_future(collect(client, "/v1/messages", body, **headers))
    attempt = await worker.next()
    await worker.say(attempt, Started(), *ANSWER)
    await worker.queue.complete(worker.name, [Ended(attempt, "done")])
    events = await first
    for number, event in enumerate(events):
        if event.id is not None and event.name != "message_stop":
            again = await collect(client, "/v1/messages", body, last_event_id=event.id, **headers)
            assert [each.data for each in again] == [each.data for each in events[number + 1 :]]
