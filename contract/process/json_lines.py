"""JSON with line numbers: where in the text a key stands, and whether it stands there twice.

People write comments and commas too many: `plain_json` blanks them, so that every line and
column stays where it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

_VALUE = re.compile(r"\s*:\s*")
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\\n]|\\.)*")|(?<![\[{,:\s])(\s*),(?=\s*[}\]])')


class DuplicateKey(ValueError):
    """An object has the same key twice; all but the last would be ignored in silence."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key = key
        self.line = line


def without_comments(text: str) -> str:
    """Return the text with spaces in the place of a byte order mark, and of `//` and `/* */`
    comments."""
    if text.startswith("\ufeff"):
        text = " " + text[1:]
    return _COMMENT.sub(lambda found: found[1] or re.sub(r"[^\n]", " ", found[0]), text)


def plain_json(text: str) -> str:
    """Return the text with spaces also in the place of a comma after the last of a list or
    object."""
    return _LAST_COMMA.sub(lambda found: found[1] or found[2] + " ", without_comments(text))


def value_span(text: str, path: Sequence[str]) -> tuple[int, int] | None:
    """Return where the value of a key begins and ends in plain JSON text whose outermost value
    is an object (which the empty path means). None if there is no such key."""
    start = text.index("{")
    if path:
        found = key_span(text, path)
        if found is None:
            return None
        start = _VALUE.match(text, found[1]).end()  # type: ignore[union-attr]  # a key has a value
    return start, json.JSONDecoder().raw_decode(text, start)[1]


def key_span(text: str, path: Sequence[str]) -> tuple[int, int] | None:
    """Return where a key itself begins and ends, with its quotes. None if there is no such key."""
    return next((span for keys, _, span in _keys(text) if keys == tuple(path)), None)


def load_json(text: str) -> Any:
    """Parse JSON. Raises `json.JSONDecodeError`, and `DuplicateKey`."""
    data = json.loads(text)
    seen: set[tuple[str, ...]] = set()
    for path, line, _ in _keys(text):
        if path in seen:
            raise DuplicateKey(".".join(path), line)
        seen.add(path)
    return data


def line_of(text: str, path: Sequence[str]) -> int:
    """Return the line (from 1) of the key at `path`, or of the nearest section around it."""
    lines = {path: line for path, line, _ in _keys(text)}
    for end in range(len(path), 0, -1):
        line = lines.get(tuple(path[:end]))
        if line is not None:
            return line
    return 1


def _keys(text: str) -> Iterator[tuple[tuple[str, ...], int, tuple[int, int]]]:
    """Yield the path and line of every key (and list index) in valid JSON text, in order; and
    where in the text the key begins and ends."""
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
            yield tuple(str(part) for part in stack), line, token.span()
