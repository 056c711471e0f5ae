"""The shape of an answer: the names of its fields with the types of their values, and for a stream
the order in which its parts come."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

#: By the name of a field (`choices[].message.content`), the types of JSON that it has.
Fields = dict[str, set[str]]
_TYPES: Final = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "number",
    list: "array",
    str: "string",
    type(None): "null",
}
#: Objects that have tokens as names.
_BY_TOKEN: Final = ("prompt_logprobs[]", "top_logprobs[]")
#: The parts of a chunk of OpenAI's streams.
_TOLD: Final = ("role", "reasoning", "content", "tool_calls", "text")
_END: Final = "[DONE]"


class Shape(NamedTuple):
    """By the name of an event, the fields of all that have it; of an answer that is no stream, they
    are those of the event ``. `order` has the names of events as they first come, and `told` the
    parts of OpenAI's chunks, which have no names."""

    fields: dict[str, Fields]
    order: list[str]
    told: list[str]


def shape_of(body: str, *, is_stream: bool) -> Shape:
    """The shape of a whole answer."""
    if not is_stream:
        return Shape({"": fields_of(json.loads(body))}, [""], [])
    fields: dict[str, Fields] = {}
    told: list[str] = []
    for name, data in _events(body):
        event = None if data == _END else json.loads(data)
        merge(fields.setdefault(name, {}), fields_of(event))
        if not name:
            told += [_END] if event is None else _parts(event)
    return Shape(fields, list(fields), list(dict.fromkeys(told)))


def fields_of(value: Any, within: str = "") -> Fields:
    """The fields of a value, with those of the objects that they are in."""
    found: Fields = {}
    if isinstance(value, list):
        for each in value:
            merge(found, fields_of(each, f"{within}[]"))
    elif isinstance(value, dict):
        for name, each in value.items():
            key = "#" if within.endswith(_BY_TOKEN) and name not in _OF_ALTERNATIVES else name
            place = f"{within}.{key}" if within else key
            merge(found, {place: {_TYPES[type(each)]}})
            merge(found, fields_of(each, place))
    return found


#: In chats, `top_logprobs` has objects of these fields.
_OF_ALTERNATIVES: Final = frozenset({"token", "logprob", "bytes"})


def merge(into: Fields, more: Fields) -> None:
    for name, types in more.items():
        into.setdefault(name, set()).update(types)


def _events(body: str) -> Iterable[tuple[str, str]]:
    for block in body.split("\n\n"):
        lines = [line.partition(":") for line in block.split("\n") if line]
        named = {name: value.removeprefix(" ") for name, _, value in lines if name}
        if "data" in named:
            yield named.get("event", ""), named["data"]


def _parts(chunk: dict[str, Any]) -> list[str]:
    parts = [
        name
        for choice in chunk.get("choices", ())
        for name in _TOLD
        if (choice.get("delta") or choice).get(name)
    ]
    parts += ["end"] * any(each.get("finish_reason") for each in chunk.get("choices", ()))
    return parts or ["usage"] * bool(chunk.get("usage"))
