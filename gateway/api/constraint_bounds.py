"""Bounds on constraints of the output, for the engine's compiler. Nothing can stop a compilation
that has begun, and a small constraint may take minutes: it has to be bounded before it is sent.

The bounds are where xgrammar 0.2.8 stays below some seconds on one core: 1 000 optional properties
of one object took 1 s, 2 000 took 5 s. Repetitions count most, since each is written out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

_MOST: Final = {
    "properties": 1_000,
    "branches": 512,
    "values to choose from": 4_096,
    "references": 1_000,
    "repetitions": 8_192,
}
_DEEPEST: Final = 32
_MOST_NODES: Final = 20_000
_REPEATS: Final = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)
_STRUCTURAL_BRANCHES: Final = frozenset(
    {"structures", "triggers", "tags", "elements", "rules", "excludes"}
)
_PROPERTIES: Final = frozenset({"properties", "patternProperties"})
_BRANCHES: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
#: Beyond it a repetition costs the compiler no more.
_LONGEST_REPEAT: Final = 1_024
_COUNTS_IN_PATTERN: Final = re.compile(r"\{\s*(\d{1,9})?\s*,?\s*(\d{1,9})?\s*\}")


class TooComplex(Exception):
    """A constraint beyond the bounds; the message says which."""


def check_schema(schema: Any) -> None:
    """Raises `TooComplex` for a JSON schema that would take too long to compile. Visits no more
    nodes than its own bound."""
    _check_nodes(schema, _count)


def check_structural_tag(tag: Any) -> None:
    """The same for a structural tag, with the schemas, patterns and grammars in it."""
    _check_nodes(tag, _count_structural)


def _check_nodes(root: Any, count: Callable[[Counter[str], str, Any], None]) -> None:
    counted: Counter[str] = Counter()
    for nodes, (node, depth) in enumerate(_nodes(root)):
        if depth > _DEEPEST:
            raise TooComplex("it is nested too deeply")
        if nodes > _MOST_NODES:
            raise TooComplex(f"it has more than {_MOST_NODES} parts")
        if isinstance(node, dict):
            for key, value in node.items():
                count(counted, key, value)
            _check(counted)


def check_pattern(pattern: str) -> None:
    """The same for a regular expression, or a grammar with some in it."""
    _check(Counter({"repetitions": _repeats_in(pattern)}))


def _nodes(schema: Any) -> Iterator[tuple[dict[str, Any] | list[Any], int]]:
    """Yield all objects and lists in a schema, and how deep they are in it."""
    stack = [(schema, 0)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, dict | list):
            yield node, depth
            children = node.values() if isinstance(node, dict) else node
            stack.extend((each, depth + 1) for each in children if isinstance(each, dict | list))


def _count(counted: Counter[str], key: str, value: Any) -> None:
    if key in _PROPERTIES and isinstance(value, dict):
        counted["properties"] += len(value)
    elif key in _BRANCHES and isinstance(value, list):
        counted["branches"] += len(value)
    elif key == "enum" and isinstance(value, list):
        counted["values to choose from"] += len(value)
    elif key == "$ref":
        counted["references"] += 1
    elif key in _REPEATS and isinstance(value, int | float):
        counted["repetitions"] += int(min(max(0, value), _LONGEST_REPEAT))
    elif key == "pattern" and isinstance(value, str):
        counted["repetitions"] += _repeats_in(value)


def _count_structural(counted: Counter[str], key: str, value: Any) -> None:
    if key in _STRUCTURAL_BRANCHES and isinstance(value, list):
        counted["branches"] += len(value)
    elif key in ("min", "max") and isinstance(value, int):
        counted["repetitions"] += min(max(0, value), _LONGEST_REPEAT)
    elif key == "grammar" and isinstance(value, str):
        counted["repetitions"] += _repeats_in(value)
    else:
        _count(counted, key, value)


def _repeats_in(pattern: str) -> int:
    return sum(
        min(max(int(number or 0) for number in counts), _LONGEST_REPEAT)
        for counts in _COUNTS_IN_PATTERN.findall(pattern)
    )


def _check(counted: Counter[str]) -> None:
    for what, most in _MOST.items():
        if counted[what] > most:
            raise TooComplex(f"it has more than {most} {what}")
