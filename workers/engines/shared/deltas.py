"""Deltas that are no text: vectors, and what is told of a prompt."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from contract.messages import Delta, ErrorCode, PromptDelta, PromptToken, VectorDelta
from workers.engine import JobRejected

#: Log probabilities, or names, that one delta has at most: a frame stays of a moderate size. Ids
#: alone are few bytes.
_MOST_IN_ONE: Final = 2_048
#: Of the vectors of tokens that one delta has, in bytes: who writes them as JSON does nothing else
#: meanwhile.
_MOST_BYTES_IN_ONE: Final = 256 * 1024
#: Of all vectors of a job, in bytes; until they are read they are in the memory of Redis.
_MOST_BYTES: Final = 64 * 1024 * 1024


class Pooled(NamedTuple):
    """The numbers of an input, as in `VectorDelta`: a vector, or one for each of `rows` tokens."""

    vector: bytes
    rows: int = 0
    label: str = ""


def pooled_deltas(pooled: Sequence[Pooled]) -> list[Delta]:
    """One for each vector; vectors of tokens come several in one. Raises `JobRejected` if it is too
    much for one answer."""
    size = sum(len(each.vector) for each in pooled)
    if size > _MOST_BYTES:
        most = f"an answer takes {_MOST_BYTES >> 20} MiB of vectors, and this has {size >> 20}"
        message = f"{most}: ask for fewer inputs, or shorter ones"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)
    return [delta for number, each in enumerate(pooled) for delta in _pieces(number, each)]


def _pieces(number: int, pooled: Pooled) -> list[Delta]:
    if not pooled.rows:
        vector = (number, pooled.vector, 0, 0, pooled.label)
        return [VectorDelta("", b"", 0, None, *vector)]
    row_bytes = len(pooled.vector) // pooled.rows
    step = max(1, _MOST_BYTES_IN_ONE // max(1, row_bytes))
    pieces: list[Delta] = []
    for row in range(0, pooled.rows, step):
        rows = min(step, pooled.rows - row)
        piece = pooled.vector[row * row_bytes : (row + rows) * row_bytes]
        pieces.append(VectorDelta("", b"", 0, None, number, piece, row, rows))
    return pieces


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
