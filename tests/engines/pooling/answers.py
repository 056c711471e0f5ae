"""The record of record.py: answers of a real vLLM, and the shape of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

ANSWERS: Final = Path(__file__).with_name("answers.json")


@dataclass(frozen=True)
class Recorded:
    """A request to the checkpoint `model`, and what came back."""

    model: str
    number: int
    path: str
    asked: dict[str, Any]
    status: int
    body: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.model} {self.number} {self.path} {'-'.join(self.asked)}"


@cache
def recorded() -> list[Recorded]:
    """Return all, in the order in which they were asked."""
    read = json.loads(ANSWERS.read_text())
    return [
        Recorded(model, number, **each)
        for model, told in read.items()
        for number, each in enumerate(told)
    ]


def shape_of(value: Any, without: Mapping[str, Set[str]] | None = None, name: str = "") -> Any:
    """Return the names and types of what an answer has; numbers are of one type, and of a list its
    first item stands for all. What `without` names by the object that has it is left out."""
    if isinstance(value, dict):
        left_out = (without or {}).get(name, frozenset())
        kept = sorted(value.items())
        return {key: shape_of(each, without, key) for key, each in kept if key not in left_out}
    if isinstance(value, list):
        return [shape_of(each, without, name) for each in value[:1]]
    return "number" if isinstance(value, (int, float)) else type(value).__name__
