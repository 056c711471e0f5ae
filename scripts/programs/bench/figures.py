"""The figures of a benchmark on each build, beside their aims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Costs that differ by less count as equal.
_FLAT = 0.10


class Figure(NamedTuple):
    """One row of a table: a value for each build, and the bounds that the first should keep."""

    name: str
    found: list[float]
    least: float | None = None
    most: float | None = None

    @property
    def aim(self) -> str:
        """It in words; empty if there is none."""
        if self.most is None:
            return ""
        return f"<= {self.most:g}" if self.least is None else f"{self.least:g} to {self.most:g}"

    @property
    def verdict(self) -> str:
        if self.most is None:
            return ""
        is_met = self.found[0] <= self.most and (self.least is None or self.found[0] >= self.least)
        return "met" if is_met else "missed"


def flat(name: str, much: Sequence[float], little: Sequence[float]) -> Figure:
    """How a cost grows: it should not, and should not shrink."""
    found = [more / less if less else 0.0 for more, less in zip(much, little, strict=True)]
    return Figure(name, found, 1 - _FLAT, 1 + _FLAT)


def not_slower(name: str, crowded: Sequence[float], alone: Sequence[float]) -> Figure:
    """How a time grows: it may shrink."""
    return flat(name, crowded, alone)._replace(least=None)


def rows(figures: Iterable[Figure]) -> list[list[object]]:
    """For a table with the columns: name, each build, aim, verdict."""
    return [[each.name, *each.found, each.aim, each.verdict] for each in figures]
