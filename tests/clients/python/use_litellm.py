"""LiteLLM, as a library."""

from __future__ import annotations

import json
import os
from typing import Any

from abilities import (
    KEY,
    MODEL,
    QUESTION,
    SENTENCE,
    TEXTS,
    TOOL_QUESTION,
    URL,
    VECTORS,
    get_weather,
    report,
)
from pydantic import BaseModel

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

WHERE: dict[str, Any] = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY}
TOOLS = [
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


def chat() -> Any:
    said: Any = litellm.completion(messages=[{"role": "user", "content": QUESTION}], **WHERE)
    return said.choices[0].message.content


def stream() -> str:
    messages = [{"role": "user", "content": QUESTION}]
    chunks: Any = litellm.completion(messages=messages, stream=True, **WHERE)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def tools() -> Any:
    """The message with the call goes back with the fields that LiteLLM adds."""
    messages: list[Any] = [{"role": "user", "content": TOOL_QUESTION}]
    said: Any = litellm.completion(messages=messages, tools=TOOLS, **WHERE)
    messages.append(said.choices[0].message)
    for call in said.choices[0].message.tool_calls:
        result = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    said = litellm.completion(messages=messages, tools=TOOLS, **WHERE)
    return said.choices[0].message.content


def structured() -> Any:
    messages = [{"role": "user", "content": SENTENCE}]
    said: Any = litellm.completion(messages=messages, response_format=Person, **WHERE)
    return json.loads(said.choices[0].message.content)


def embeddings() -> list[int]:
    where = WHERE | {"model": f"openai/{VECTORS}"}
    return [len(each["embedding"]) for each in litellm.embedding(input=TEXTS, **where).data]


if __name__ == "__main__":
    report(chat, stream, tools, structured, embeddings)
