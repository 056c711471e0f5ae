"""The official client."""

from __future__ import annotations

import json
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
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=URL, api_key=KEY)
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


class Person(BaseModel):
    name: str
    age: int


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def chat() -> str | None:
    answer = client.chat.completions.create(model=MODEL, messages=[user(QUESTION)])
    return answer.choices[0].message.content


def stream() -> str:
    chunks = client.chat.completions.create(model=MODEL, messages=[user(QUESTION)], stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def tools() -> str | None:
    """The message with the call goes back as the client made it."""
    messages = [user(TOOL_QUESTION)]
    said = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    messages.append(said.choices[0].message)
    for call in said.choices[0].message.tool_calls or []:
        result = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    said = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    return said.choices[0].message.content


def streamed_tools() -> Any:
    """By the client's own collector of pieces."""
    with client.chat.completions.stream(
        model=MODEL, messages=[user(TOOL_QUESTION)], tools=TOOLS
    ) as events:
        done = [each for each in events if each.type == "tool_calls.function.arguments.done"]
        last = events.get_final_completion().choices[0]
    return [[each.name, json.loads(each.arguments)] for each in done] + [last.finish_reason]


def structured() -> Any:
    parsed = client.chat.completions.parse(
        model=MODEL, messages=[user(SENTENCE)], response_format=Person
    )
    person = parsed.choices[0].message.parsed
    return person and person.model_dump()


def parsed_history() -> str | None:
    """Send the result of `parse` back as it is, with the fields that only the client knows."""
    parsed = client.chat.completions.parse(
        model=MODEL, messages=[user(SENTENCE)], response_format=Person
    )
    messages: Any = [user(SENTENCE), parsed.choices[0].message, user(QUESTION)]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    return answer.choices[0].message.content


def reasoning() -> Any:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[user(QUESTION)],
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    )
    message: Any = answer.choices[0].message
    return [message.reasoning_content, message.content]


def responses() -> str:
    return client.responses.create(model=MODEL, input=QUESTION).output_text


def responses_stream() -> str:
    events = client.responses.create(model=MODEL, input=QUESTION, stream=True)
    return "".join(each.delta for each in events if each.type == "response.output_text.delta")


def responses_tools() -> Any:
    """The items of the answer go back as the client made them."""
    tool: Any = {"type": "function", **TOOLS[0]["function"]}
    said = client.responses.create(model=MODEL, input=TOOL_QUESTION, tools=[tool])
    calls = [item for item in said.output if item.type == "function_call"]
    results: Any = [
        {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": get_weather(**json.loads(call.arguments)),
        }
        for call in calls
    ]
    asked: Any = [user(TOOL_QUESTION), *said.output, *results]
    return client.responses.create(model=MODEL, input=asked, tools=[tool]).output_text


def embeddings() -> list[int]:
    answer = client.embeddings.create(model=VECTORS, input=TEXTS)
    return [len(each.embedding) for each in answer.data]


if __name__ == "__main__":
    report(
        chat,
        stream,
        tools,
        streamed_tools,
        structured,
        parsed_history,
        reasoning,
        responses,
        responses_stream,
        responses_tools,
        embeddings,
    )
