"""The Agents SDK, over chat completions."""

from __future__ import annotations

import asyncio
from typing import Any

from abilities import KEY, MODEL, QUESTION, SENTENCE, TOOL_QUESTION, URL, get_weather, report
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

set_tracing_disabled(True)


class Person(BaseModel):
    name: str
    age: int


def agent(**more: Any) -> Agent[Any]:
    client = AsyncOpenAI(base_url=URL, api_key=KEY)
    settings = ModelSettings(temperature=0, include_usage=True)
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    return Agent("demo", model=model, model_settings=settings, **more)


def chat() -> Any:
    return Runner.run_sync(agent(), QUESTION).final_output


def stream() -> str:
    async def read() -> str:
        answer = Runner.run_streamed(agent(), QUESTION)
        events = [
            event.data
            async for event in answer.stream_events()
            if event.type == "raw_response_event"
        ]
        return "".join(each.delta for each in events if isinstance(each, ResponseTextDeltaEvent))

    return asyncio.run(read())


def tools() -> Any:
    return Runner.run_sync(agent(tools=[function_tool(get_weather)]), TOOL_QUESTION).final_output


def structured() -> Any:
    return Runner.run_sync(agent(output_type=Person), SENTENCE).final_output.model_dump()


if __name__ == "__main__":
    report(chat, stream, tools, structured)
