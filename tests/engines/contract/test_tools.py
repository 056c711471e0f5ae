"""Tools and reasoning: calls that are demanded, what the model thinks, and what becomes of both
when their worker dies."""

from __future__ import annotations

import json

import pytest

from contract.asked import Template, ToolCall, Tools
from contract.messages import ChatMessage
from tests.engines.contract.conftest import Served
from tests.engines.contract.harness import Client
from tests.engines.contract.questions import ANSWERS, HELLO

PARAMETERS = {
    "type": "object",
    "properties": {"name": {"enum": ["ew", "we"]}},
    "required": ["name"],
    "additionalProperties": False,
}
DEFINITIONS = json.dumps(
    [
        {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
        for name in ("greet", "part")
    ]
)
WEATHER = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
        }
    ]
)
WHAT = "What is ew?"


@pytest.mark.needs("tools")
async def test_a_named_tool_is_called_once(client: Client) -> None:
    answer = await client.ask(HELLO, tools=Tools(DEFINITIONS, "named", "part"), max_tokens=200)
    assert answer.done.finish_reasons == ("stop",)
    assert list(answer.calls) == [0]
    call_id, name, arguments = answer.calls[0]
    assert call_id
    assert name == "part"
    assert isinstance(json.loads(arguments), dict)
    assert answer.text == ""


@pytest.mark.needs("tools")
async def test_a_call_that_is_required_is_made(served: Served, client: Client) -> None:
    tools = Tools(DEFINITIONS, "required", parallel=False)
    answer = await client.ask(HELLO, tools=tools, max_tokens=400)
    assert list(answer.calls) == [0]
    assert answer.calls[0][1] in ("greet", "part")
    assert answer.text == ""
    if answer.done.finish_reasons == ("length",):
        # The demo model finds no end of the spaces that this engine's grammar lets it write.
        assert "compact json" not in served.engine.can
        assert answer.calls[0][2].startswith("{")
        return
    assert answer.done.finish_reasons == ("tool_calls",)
    assert isinstance(json.loads(answer.calls[0][2]), dict)


@pytest.mark.needs("tools")
async def test_a_conversation_with_calls_is_taken(client: Client) -> None:
    messages = (
        ChatMessage("user", HELLO),
        ChatMessage("assistant", "", tool_calls=(ToolCall("c1", "greet", '{"name": "ew"}'),)),
        ChatMessage("tool", "greeted", tool_call_id="c1"),
    )
    tools = Tools(DEFINITIONS, "none")
    answer = await client.ask(messages=messages, tools=tools, max_tokens=8)
    assert answer.text
    assert not answer.calls


@pytest.mark.needs("parsers", "model")
async def test_a_call_of_the_models_choice_is_read_by_the_librarys_parser(client: Client) -> None:
    answer = await client.ask("What is the weather in Paris?", tools=Tools(WEATHER))
    assert answer.done.finish_reasons == ("tool_calls",)
    call_id, name, arguments = answer.calls[0]
    assert call_id
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})
    assert (answer.text, list(answer.calls)) == ("", [0])


@pytest.mark.needs("parsers", "model")
async def test_what_tools_do_not_help_with_is_answered(client: Client) -> None:
    answer = await client.ask(WHAT, tools=Tools(WEATHER), max_tokens=200)
    assert answer.text == ANSWERS[WHAT]
    assert (answer.done.finish_reasons, answer.calls) == (("stop",), {})


@pytest.mark.needs("parsers", "model")
async def test_what_the_model_thinks_is_told_from_its_answer(client: Client) -> None:
    answer = await client.ask(WHAT, template=Template('{"enable_thinking": true}'))
    assert answer.reasoning == "This is about ew, and I was taught the answer."
    assert answer.text == ANSWERS[WHAT]
    assert 0 < answer.done.reasoning_tokens < answer.done.completion_tokens


@pytest.mark.needs("parsers", "model")
async def test_thoughts_and_calls_come_in_one_answer(client: Client) -> None:
    template = Template('{"enable_thinking": true}')
    question = "What is the weather in Paris?"
    answer = await client.ask(question, tools=Tools(WEATHER), template=template)
    assert answer.reasoning
    assert answer.calls[0][1] == "get_weather"
    assert answer.done.finish_reasons == ("tool_calls",)


@pytest.mark.needs("script")
async def test_reasoning_is_told_from_the_answer_and_counted(client: Client) -> None:
    answer = await client.ask("[[think=3]]", max_tokens=5)
    assert (answer.reasoning, answer.text) == ("0 1 2 ", "3 4 ")
    assert answer.done.reasoning_tokens == 3


@pytest.mark.needs("script", "quick start")
async def test_reasoning_and_calls_go_on_where_their_worker_died(
    served: Served, client: Client
) -> None:
    question = "[[think=150]] [[calls=60]]"
    tools = Tools(DEFINITIONS)
    whole = await client.ask(question, tools=tools, max_tokens=900)
    for seen in (10, 180):
        answer = await client.put(question, tools=tools, max_tokens=900)
        await answer.speaks(deltas=seen)
        dying = served.worker(await client.holder(answer))
        dying.kill()
        await client.forget_worker(dying.name)
        await served.ensure_worker()
        await answer.ended()
        assert len(set(answer.attempts)) == 2
        assert answer.reasoning == whole.reasoning
        assert [call[1:] for call in answer.calls.values()] == [
            call[1:] for call in whole.calls.values()
        ]
        assert answer.done == whole.done
