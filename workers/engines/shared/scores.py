"""How like each other texts are, by their vectors."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from operator import mul

from contract.asked import Pooling


def pairs(asked: Pooling) -> list[tuple[int, int]]:
    """Return the places of the inputs that scores are wanted for: of a query, and a document."""
    documents = range(asked.queries, len(asked.inputs))
    return [(0 if asked.queries == 1 else place - asked.queries, place) for place in documents]


def cosines(vectors: Sequence[bytes], asked: Pooling) -> list[bytes]:
    """Return the score of each pair, as in `VectorDelta`: the cosine of the angle between their
    vectors; 0 if one of them is all zeros."""
    units = [_unit(vector) for vector in vectors]
    scores = (sum(map(mul, units[one], units[other])) for one, other in pairs(asked))
    return [packed([score]) for score in scores]


def packed(numbers: Sequence[float]) -> bytes:
    """Return numbers as in `VectorDelta`."""
    floats = array("f", numbers)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def _unit(vector: bytes) -> array[float]:
    """Return the vector of length 1 in the same direction."""
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    length = math.sqrt(sum(map(mul, floats, floats))) or 1.0
    return array("d", (each / length for each in floats))
