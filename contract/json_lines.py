"""JSON with line numbers: where in the text a key stands, and whether it stands there twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class DuplicateKey(ValueError):
    """An object has the same key twice; all but the last would be ignored in silence."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key = key
        self.line = line


def load_json(text: str) -> Any:
    """Parse JSON. Raises `json.JSONDecodeError`, and `DuplicateKey`."""
    data = json.loads(text)
    seen: set[tuple[str, ...]] = set()
    for path, line in _keys(text):
        if path in seen:
            raise DuplicateKey(".".join(path), line)
        seen.add(path)
    return data


def line_of(text: str, path: Sequence[str]) -> int:
    """The line (from 1) of the key at `path`, or of the nearest section around it."""
    lines = dict(_keys(text))
    for end in range(len(path), 0, -1):
        line = lines.get(tuple(path[:end]))
        if line is not None:
            return line
    return 1


def _keys(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The path and line of every key (and list index) in valid JSON text, in order."""
    stack: list[str | int] = []
    tokens = list(_TOKEN.finditer(text))
    for i, token in enumerate(tokens):
        word = token.group()
        if word == "{":
            stack.append("")
        elif word == "[":
            stack.append(0)
        elif word in "}]":
            stack.pop()
        elif word == "," and isinstance(stack[-1], int):
            stack[-1] += 1
        elif word[0] == '"' and i + 1 < len(tokens) and tokens[i + 1].group() == ":":
            stack[-1] = json.loads(word)
            line = text.count("\n", 0, token.start()) + 1
            yield tuple(str(part) for part in stack), line
