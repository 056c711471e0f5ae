"""Calls of tools that a request demands: a JSON schema forces them, whatever the model's own markup
for calls is. A named tool's answer is its arguments; else it is an array of calls."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from contract.asked import Guided, Tools
from workers.engines.shared.parsing.text import CallReader, ReadCall, SaidCalls
from workers.engines.shared.schemas import folded

_NO_PARAMETERS: Final[dict[str, Any]] = {"type": "object", "properties": {}}
#: The part of a call before its arguments.
_HEAD: Final = re.compile(
    r'[\s\[,}]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"parameters"\s*:\s*(?=\{)'
)


def forcing(tools: Tools) -> Guided:
    """Return the constraint that forces the calls. Raises `ValueError` if two tools have different
    schemas under one name in their `$defs`."""
    functions = [tool["function"] for tool in json.loads(tools.definitions)]
    if tools.choice == "named":
        named = next(each for each in functions if each["name"] == tools.name)
        return Guided("json", json.dumps(_parameters(named)))
    definitions: dict[str, Any] = {}
    calls = [_call(function, definitions) for function in functions]
    schema: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    if definitions:
        schema["$defs"] = definitions
    if not tools.parallel:
        schema["maxItems"] = 1
    return Guided("json", json.dumps(schema))


def reader_of(tools: Tools) -> CallReader:
    """Return what reads the calls that `forcing` forces."""
    return NamedCall(tools.name) if tools.choice == "named" else CallArray()


class NamedCall:
    """All text is the arguments of one call."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, text: str) -> SaidCalls:
        if not text:
            return SaidCalls()
        name, self._name = self._name, ""
        return SaidCalls("", [ReadCall(0, name, text)])

    def end(self) -> SaidCalls:
        return SaidCalls()


class CallArray:
    """`[{"name": ..., "parameters": {...}}, ...]`, as far as it has come."""

    def __init__(self) -> None:
        self._number = -1
        #: The text that is not read yet: the beginning of a call's head.
        self._waiting = ""
        #: How many braces of arguments are open, and whether a string is, or an escape in it.
        self._depth = 0
        self._in_string = self._is_escaped = False

    def read(self, text: str) -> SaidCalls:
        self._waiting += text
        pieces: list[ReadCall] = []
        while self._waiting:
            name = ""
            if not self._depth:
                head = _HEAD.match(self._waiting)
                if head is None:
                    break
                self._number += 1
                name, self._waiting = json.loads(head[1]), self._waiting[head.end() :]
            end = self._arguments_end()
            pieces.append(ReadCall(self._number, name, self._waiting[:end]))
            self._waiting = self._waiting[end:]
        return SaidCalls("", pieces)

    def end(self) -> SaidCalls:
        return SaidCalls()

    def _arguments_end(self) -> int:
        """Return how much of what waits belongs to the arguments that are open."""
        for place, character in enumerate(self._waiting, start=1):
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._is_escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            else:
                self._depth += (character in "{[") - (character in "}]")
                if not self._depth:
                    return place
        return len(self._waiting)


def _call(function: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a call. The `$defs` that are left in it go to those of all: references
    begin at the root."""
    parameters = dict(_parameters(function))
    for name, schema in parameters.pop("$defs", {}).items():
        if definitions.setdefault(name, schema) != schema:
            message = f"`tools`: `{name}` in `$defs` is not the same in all of them"
            raise ValueError(message)
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": [function["name"]]},
            "parameters": parameters,
        },
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = folded(function.get("parameters") or _NO_PARAMETERS)
    return parameters
