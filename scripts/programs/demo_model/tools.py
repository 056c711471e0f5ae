"""The tools that the model is taught to call, under the many names that clients give them."""

from __future__ import annotations

import json
import random
from typing import Any, Final, Literal, NamedTuple

from programs.demo_model.questions import Asker

#: `other`: a tool of which nothing is known but its name; it is called only where it is forced.
ToolKind = Literal["weather", "sum", "person", "final", "other"]
#: The values of a tool of which nothing is known, by the type of the parameter.
DEFAULTS: Final[dict[str, Any]] = {
    "string": "ew",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": ["ew"],
    "object": {},
    "any": "ew",
}
_NAMES: Final[dict[ToolKind, tuple[str, ...]]] = {
    "weather": ("get_weather",) * 3 + ("weather", "getWeather", "get_current_weather"),
    "sum": ("add",) * 3 + ("add_numbers", "sum", "plus", "calculate_sum"),
    "person": ("Person", "final_result", "User", "UserInfo", "extract", "UserDetail", "person"),
    "final": ("final_answer",),
}
_PLACES: Final = ("city",) * 3 + ("location", "place", "town")
_ADDENDS: Final = (("a", "b"),) * 3 + (("x", "y"), ("first", "second"), ("left", "right"))


class Tool(NamedTuple):
    kind: ToolKind
    name: str
    #: Names and JSON types, in order.
    parameters: tuple[tuple[str, str], ...]

    @property
    def definition(self) -> dict[str, Any]:
        """As a client of OpenAI's API gives it."""
        properties = {name: {"type": type} for name, type in self.parameters}
        schema = {"type": "object", "properties": properties}
        return {"type": "function", "function": {"name": self.name, "parameters": schema}}

    def call(self, *values: Any) -> dict[str, Any]:
        """Return a call with the values of the first parameters; the others have their defaults."""
        given = dict(zip((name for name, _ in self.parameters), values, strict=False))
        arguments = {name: DEFAULTS[type] for name, type in self.parameters} | given
        return {"type": "function", "function": {"name": self.name, "arguments": arguments}}

    @property
    def opening(self) -> str:
        """How every call of it begins, as the chat template writes it."""
        return f'<tool_call>\n{{"name": {json.dumps(self.name)}, "arguments": '


class Toolmaker:
    """Makes lists of tools as requests have them."""

    def __init__(self, asker: Asker, chance: random.Random) -> None:
        self._asker = asker
        self._chance = chance

    def some(self) -> list[Tool]:
        """Up to three tools, of different kinds but for the unknown ones, in any order."""
        kinds: list[ToolKind] = ["weather", "weather", "sum", "sum", "person", "final", "other"]
        picked = self._chance.sample(kinds, k=self._chance.choice((1, 1, 2, 2, 3)))
        made = [self.make(kind) for kind in dict.fromkeys(picked)]
        return list({tool.name: tool for tool in made}.values())

    def make(self, kind: ToolKind) -> Tool:
        name = self._new_name() if kind == "other" else self._chance.choice(_NAMES[kind])
        match kind:
            case "weather":
                parameters = ((self._chance.choice(_PLACES), "string"),)
            case "sum":
                type = self._chance.choice(("integer", "integer", "number"))
                parameters = tuple((name, type) for name in self._chance.choice(_ADDENDS))
            case "person":
                parameters = (("name", "string"), ("age", "integer"))
                if self._chance.random() < 0.3:
                    name = self._new_name()
            case "final":
                parameters = (("answer", "string"),)
            case "other":
                types = self._chance.choices(list(DEFAULTS), k=self._chance.choice((0, 1, 1, 2, 3)))
                names = dict.fromkeys(self._parameter_name() for _ in types)
                parameters = tuple(zip(names, types, strict=False))
        return Tool(kind, name, parameters)

    def _new_name(self) -> str:
        words = [self._asker.new_word() for _ in range(self._chance.choice((1, 1, 2)))]
        words = ["".join(filter(str.isalnum, word)) or "do" for word in words]
        if self._chance.random() < 0.4:
            return "".join(word.capitalize() for word in words)
        return "_".join(words)

    def _parameter_name(self) -> str:
        common = ("text", "query", "answer", "value", "count", "items", "reason", "title", "path")
        return self._chance.choice(common) if self._chance.random() < 0.6 else self._new_name()
