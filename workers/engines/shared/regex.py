"""Regular expressions for engines that know no choices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_SPECIAL: Final = frozenset(r"\^$.*+?()[]{}|/")


def alternation(choices: Iterable[str]) -> str:
    """Return a regular expression that matches exactly the choices."""
    return "(" + "|".join(map(_escaped, choices)) + ")"


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)
