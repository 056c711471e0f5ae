"""instructor: an object of a class, in each of its modes that a server of this kind has."""

from __future__ import annotations

from typing import Any

import instructor
from abilities import KEY, MODEL, SENTENCE, URL, report
from openai import OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


def ask(mode: instructor.Mode) -> Any:
    client = instructor.from_openai(OpenAI(base_url=URL, api_key=KEY), mode=mode)
    messages: Any = [{"role": "user", "content": SENTENCE}]
    found: Any = client.create(
        model=MODEL, messages=messages, response_model=Person, max_retries=1, temperature=0
    )
    return found.model_dump()


def structured() -> Any:
    return ask(instructor.Mode.JSON_SCHEMA)


def structured_by_call() -> Any:
    return ask(instructor.Mode.TOOLS)


def structured_stream() -> Any:
    where = OpenAI(base_url=URL, api_key=KEY)
    client = instructor.from_openai(where, mode=instructor.Mode.TOOLS)
    messages: Any = [{"role": "user", "content": SENTENCE}]
    parts: Any = client.create_partial(model=MODEL, messages=messages, response_model=Person)
    return [part.model_dump() for part in parts][-1]


if __name__ == "__main__":
    report(structured, structured_by_call, structured_stream)
