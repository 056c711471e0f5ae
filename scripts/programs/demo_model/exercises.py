"""Conversations with tools that a trained model must be able to have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

from programs.demo_model.conversations import Answer, Conversation, Message
from programs.demo_model.phrases import ASK_SUM, ASK_WEATHER, CITIES, PEOPLE, TELL_PERSON
from programs.demo_model.tools import Tool

WEATHER = Tool("weather", "get_weather", (("city", "string"),))
SUM = Tool("sum", "add", (("a", "integer"), ("b", "integer")))
PERSON = Tool("person", "Person", (("name", "string"), ("age", "integer")))


def exercises() -> Iterator[Conversation]:
    """Yield each city and person once, and sums, in all the ways to ask; some with thoughts."""
    for number, (city, asked) in enumerate(zip(CITIES, cycle(ASK_WEATHER), strict=False)):
        result = f"sunny, {number % 40} degrees"
        yield _asked(asked.format(city), [WEATHER, SUM], WEATHER.call(city), result, number)
    for number, asked in enumerate(ASK_SUM * 3):
        addends = (number * 7 % 100, number * 13 % 100)
        call, result = SUM.call(*addends), str(sum(addends))
        yield _asked(asked.format(*addends), [WEATHER, SUM], call, result, number)
    for number, (name, told) in enumerate(zip(PEOPLE, cycle(TELL_PERSON), strict=False)):
        age = 1 + number * 11 % 90
        turns: list[Message | Answer] = [
            _user(told.format(name, age)),
            _called(PERSON.call(name, age)),
        ]
        yield Conversation(turns, [PERSON], thinks=False)


def _asked(asked: str, tools: list[Tool], call: Message, result: str, number: int) -> Conversation:
    told = {"role": "tool", "content": result}
    said = {"role": "assistant", "content": f"The tool says: {result}"}
    turns = [_user(asked), _called(call), told, Answer(said, "The tool has told.")]
    return Conversation(turns, tools, thinks=number % 5 == 0)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _called(call: dict[str, Any]) -> Answer:
    return Answer({"role": "assistant", "content": None, "tool_calls": [call]}, "A tool can tell.")
