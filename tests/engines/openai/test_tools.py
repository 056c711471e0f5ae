"""Tools and reasoning pass through the openai engine, in each form that servers have for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.asked import Template, ToolCall, Tools
from contract.messages import ChatMessage
from tests.engines.openai.bench import Bench
from tests.engines.openai.scripted_upstream import Exchange

DEFINITIONS = [{"type": "function", "function": {"name": "add"}}]
TOOLS = Tools(json.dumps(DEFINITIONS), "named", "add", parallel=False)


def answers(*deltas: dict[str, Any], reason: str = "tool_calls", **usage: Any) -> Any:
    async def answer(exchange: Exchange) -> None:
        for delta in deltas:
            await exchange.say("", delta=delta)
        await exchange.finish(reason, **usage)

    return answer


def piece(index: int | None, arguments: str | None, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **{k: v for k, v in more.items() if k == "name"}}
    call: dict[str, Any] = {"function": function} | {k: v for k, v in more.items() if k == "id"}
    return {"tool_calls": [call if index is None else {"index": index, **call}]}


async def test_the_server_is_asked_in_its_own_words(bench: Bench) -> None:
    await bench.ready()
    messages = (
        ChatMessage("user", "1 + 1?"),
        ChatMessage("assistant", "", tool_calls=(ToolCall("c", "add", '{"a": 1}'),)),
        ChatMessage("tool", "2", tool_call_id="c"),
    )
    template = Template(json.dumps({"reasoning_effort": "low", "enable_thinking": True}))
    await bench.ask(messages=messages, tools=TOOLS, template=template)
    asked = bench.upstream.asked
    assert asked["tools"] == DEFINITIONS
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert asked["parallel_tool_calls"] is False
    assert asked["reasoning_effort"] == "low"
    assert asked["messages"] == [
        {"role": "user", "content": "1 + 1?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1}'},
                }
            ],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c"},
    ]


#: In pieces as OpenAI sends them; whole and uncounted; and with the name in every piece.
FORMS: dict[str, list[dict[str, Any]]] = {
    "pieces": [
        piece(0, "", name="add", id="a"),
        piece(0, '{"a":'),
        piece(1, None, name="add", id="b"),
        piece(0, "1}"),
        piece(1, "{}"),
    ],
    "whole": [piece(None, '{"a":1}', name="add", id="a"), piece(None, "{}", name="add", id="b")],
    "named": [
        piece(4, '{"a":', name="add", id="a"),
        piece(4, "1}", name="add", id="a"),
        piece(7, "{}", name="add", id="b"),
    ],
}


@pytest.mark.parametrize("form", FORMS)
async def test_calls_come_back_whatever_their_form(bench: Bench, form: str) -> None:
    await bench.ready()
    bench.upstream.answer = answers(*FORMS[form])
    answer = await bench.ask("hi", tools=TOOLS)
    assert answer.done.finish_reasons == ("tool_calls",)
    assert answer.calls == {0: ("a", "add", '{"a":1}'), 1: ("b", "add", "{}")}
    assert answer.text == ""


@pytest.mark.parametrize(("choice", "reason"), [("auto", "tool_calls"), ("named", "stop")])
async def test_a_call_is_the_reason_for_an_end_also_where_the_server_says_stop(
    bench: Bench, choice: Any, reason: str
) -> None:
    await bench.ready()
    bench.upstream.answer = answers(*FORMS["whole"], reason="stop")
    answer = await bench.ask("hi", tools=Tools(json.dumps(DEFINITIONS), choice, "add"))
    assert answer.done.finish_reasons == (reason,)


THOUGHTS: list[dict[str, Any]] = [
    {"reasoning_content": "Hm"},
    {"reasoning": "Hm"},
    {"reasoning": "Hm", "reasoning_content": "Hm"},
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
]


#: Where OpenAI has the number of its tokens, and where SGLang has it.
COUNTS: list[dict[str, Any]] = [
    {"completion_tokens_details": {"reasoning_tokens": 1}},
    {"reasoning_tokens": 1},
]


@pytest.mark.parametrize("thought", THOUGHTS)
@pytest.mark.parametrize("counted", COUNTS)
async def test_reasoning_comes_back_as_what_it_is(
    bench: Bench, thought: dict[str, Any], counted: dict[str, Any]
) -> None:
    await bench.ready()
    bench.upstream.answer = answers(
        thought,
        {"content": "Yes."},
        reason="stop",
        prompt_tokens=3,
        completion_tokens=2,
        **counted,
    )
    answer = await bench.ask("hi")
    assert (answer.text, answer.reasoning) == ("Yes.", "Hm")
    assert answer.done.reasoning_tokens == 1
