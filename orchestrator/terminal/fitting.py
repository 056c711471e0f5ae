"""Text that keeps to a width: a terminal breaks longer lines wherever they happen to end."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

#: An order that sets a style, or one character.
_PIECES: Final = re.compile(r"\x1b\[[0-9;]*m|.", re.DOTALL)
_CUT: Final = "…"
#: Stands for a space where no line shall break.
_GLUE: Final = "\x1f"


def cells(text: str) -> int:
    """Return the columns that a terminal needs for unstyled text: East Asian characters take
    two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clipped(line: str, width: int) -> str:
    """Return a line, styled or not, without what is beyond the width; a sign tells that there
    was more."""
    if line.isascii() and len(line) <= width:
        return line
    pieces = _PIECES.findall(line)
    sizes = [0 if piece[0] == "\x1b" else _cells(piece) for piece in pieces]
    if sum(sizes) <= width:
        return line
    kept, used, is_cut = [], 0, False
    for piece, size in zip(pieces, sizes, strict=True):
        if piece[0] == "\x1b":
            kept.append(piece)
        elif not is_cut and used + size < width:
            kept.append(piece)
            used += size
        elif not is_cut:
            kept.append(_CUT)
            is_cut = True
    return "".join(kept)


def shortened(name: str, width: int) -> str:
    """Return a name without its middle: how it begins and how it ends tells it from others."""
    if cells(name) <= width:
        return name
    end = (width - 1) // 2
    return clipped(name, width - end) + _last(name, end)


def _last(text: str, width: int) -> str:
    while cells(text) > width:
        text = text[1:]
    return text


def padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield a text in lines that break between words, where words are short enough."""
    for line in text.splitlines():
        rest = line.rstrip()
        while cells(rest) > width:
            head = _first(rest, width)
            space = head.rfind(" ") if len(head) < len(rest) and rest[len(head)] != " " else -1
            head = head[:space] if space > 0 else head
            yield head.rstrip()
            rest = rest[len(head) :].lstrip()
        yield rest


def _first(text: str, width: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += _cells(character)
        if used > width:
            return text[: max(index, 1)]
    return text


def joined(facts: Sequence[str], width: int) -> list[str]:
    """Join facts by commas, in lines that break only between two facts, unless one is longer than
    a line. None of them is empty."""
    glued = (fact if cells(fact) > width else fact.replace(" ", _GLUE) for fact in facts)
    return [line.replace(_GLUE, " ") for line in wrapped(", ".join(glued), width)]
