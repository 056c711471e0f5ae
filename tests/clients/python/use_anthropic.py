"""Anthropic's client, over the Messages API."""

from __future__ import annotations

from typing import Any

from abilities import BASE, KEY, MODEL, QUESTION, SENTENCE, TOOL_QUESTION, get_weather, report
from anthropic import Anthropic

client = Anthropic(base_url=BASE, api_key=KEY)
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PERSON: Any = {
    "name": "Person",
    "input_schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    },
}


def ask(messages: Any, **more: Any) -> Any:
    return client.messages.create(model=MODEL, max_tokens=300, messages=messages, **more)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def chat() -> str:
    return ask([user(QUESTION)]).content[0].text


def stream() -> str:
    with client.messages.stream(model=MODEL, max_tokens=300, messages=[user(QUESTION)]) as parts:
        return "".join(parts.text_stream)


def tools() -> str:
    """The blocks of the answer go back as the client made them."""
    said = ask([user(TOOL_QUESTION)], tools=[WEATHER])
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": get_weather(**block.input)}
        for block in said.content
        if block.type == "tool_use"
    ]
    messages = [
        user(TOOL_QUESTION),
        {"role": "assistant", "content": said.content},
        {"role": "user", "content": results},
    ]
    return ask(messages, tools=[WEATHER]).content[0].text


def streamed_tools() -> Any:
    """By the client's own collector of pieces."""
    asked: Any = {"model": MODEL, "max_tokens": 300, "messages": [user(TOOL_QUESTION)]}
    with client.messages.stream(tools=[WEATHER], **asked) as parts:
        last = parts.get_final_message()
    calls = [[block.name, block.input] for block in last.content if block.type == "tool_use"]
    return [*calls, last.stop_reason.replace("tool_use", "tool_calls")]


def structured_by_call() -> Any:
    choice = {"type": "tool", "name": "Person"}
    return ask([user(SENTENCE)], tools=[PERSON], tool_choice=choice).content[0].input


if __name__ == "__main__":
    report(chat, stream, tools, streamed_tools, structured_by_call)
