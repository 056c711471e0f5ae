"""smolagents: the model, and an agent that calls tools. Its own instructions are longer than what
the demo model reads, so the agent has short ones."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from abilities import KEY, MODEL, QUESTION, SENTENCE, TOOL_QUESTION, URL, get_weather, report
from smolagents import OpenAIModel, Tool, ToolCallingAgent

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY)


class Weather(Tool):
    name = "get_weather"
    description = "Get the weather in a city."
    inputs: ClassVar[Any] = {"city": {"type": "string", "description": "The name of the city."}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return get_weather(city)


def user(text: str) -> Any:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def chat() -> Any:
    return model.generate([user(QUESTION)]).content


def stream() -> str:
    return "".join(delta.content or "" for delta in model.generate_stream([user(QUESTION)]))


def structured() -> Any:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    json_schema = {"name": "Person", "schema": schema, "strict": True}
    asked = {"type": "json_schema", "json_schema": json_schema}
    return json.loads(model.generate([user(SENTENCE)], response_format=asked).content)


def called_tools() -> Any:
    """The agent sends the tools with `tool_choice: "required"`."""
    agent = ToolCallingAgent([Weather()], model, max_steps=2, verbosity_level=0)
    agent.prompt_templates["system_prompt"] = "Answer."
    agent.run(TOOL_QUESTION)
    calls = [
        call for step in agent.memory.steps for call in getattr(step, "tool_calls", None) or []
    ]
    return [[call.name, call.arguments] for call in calls][:1]


if __name__ == "__main__":
    report(chat, stream, structured, called_tools)
