"""The official client of Mistral's API."""

from __future__ import annotations

import json
from typing import Any

from abilities import (
    BASE,
    KEY,
    MODEL,
    QUESTION,
    SENTENCE,
    TEXTS,
    TOOL_QUESTION,
    VECTORS,
    get_weather,
    report,
)
from mistralai import Mistral
from pydantic import BaseModel

CLIENT = Mistral(api_key=KEY, server_url=BASE)
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


class Person(BaseModel):
    name: str
    age: int


def models() -> list[Any]:
    listed: Any = CLIENT.models.list().data
    known = next(each for each in listed if each.id == MODEL)
    return [known.capabilities.completion_chat, CLIENT.models.retrieve(model_id=MODEL).id]


def chat() -> Any:
    said: Any = CLIENT.chat.complete(model=MODEL, messages=[{"role": "user", "content": QUESTION}])
    return said.choices[0].message.content


def stream() -> str:
    messages: Any = [{"role": "user", "content": QUESTION}]
    events: Any = CLIENT.chat.stream(model=MODEL, messages=messages)
    return "".join(event.data.choices[0].delta.content or "" for event in events)


def tools() -> Any:
    """Its `any` is OpenAI's `required`."""
    messages: list[Any] = [{"role": "user", "content": TOOL_QUESTION}]
    said: Any = CLIENT.chat.complete(model=MODEL, messages=messages, tools=TOOLS, tool_choice="any")
    messages.append(said.choices[0].message)
    for call in said.choices[0].message.tool_calls:
        result = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    said = CLIENT.chat.complete(model=MODEL, messages=messages, tools=TOOLS)
    return said.choices[0].message.content


def structured() -> Any:
    messages: Any = [{"role": "user", "content": SENTENCE}]
    said: Any = CLIENT.chat.parse(Person, model=MODEL, messages=messages, temperature=0)
    return said.choices[0].message.parsed.model_dump()


def embeddings() -> list[int]:
    made: Any = CLIENT.embeddings.create(model=VECTORS, inputs=TEXTS)
    return [len(each.embedding) for each in made.data]


if __name__ == "__main__":
    report(models, chat, stream, tools, structured, embeddings)
