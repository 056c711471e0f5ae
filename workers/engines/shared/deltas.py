"""Deltas that are no text: vectors, and what is told of a prompt."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from contract.messages import Delta, PromptDelta, PromptToken, VectorDelta

#: Log probabilities, or names, that one delta has at most: a frame stays of a moderate size. Ids
#: alone are few bytes.
_MOST_IN_ONE: Final = 2_048


def vector_deltas(vectors: Sequence[bytes]) -> list[Delta]:
    """One for each vector, which is as in `VectorDelta`."""
    return [VectorDelta("", b"", 0, None, number, each) for number, each in enumerate(vectors)]


def prompt_deltas(
    ids: Sequence[int],
    text: str = "",
    names: Sequence[str] = (),
    places: Sequence[tuple[PromptToken, ...]] = (),
) -> list[Delta]:
    """The same ones each time for the same prompt. `names` and `places` have an item for each of
    the `ids`, or none."""
    step = max(1, len(ids))
    if names or places:
        step = max(1, _MOST_IN_ONE // max([1, *map(len, places)]))
    starts = range(0, max(1, len(ids)), step)
    return [
        PromptDelta(
            "",
            b"",
            prompt=array("I", ids[start : start + step]).tobytes(),
            prompt_text="" if start else text,
            names=tuple(names[start : start + step]),
            places=tuple(places[start : start + step]),
        )
        for start in starts
    ]
