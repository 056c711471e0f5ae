"""The mock as a pooling model: its numbers say how long the texts are."""

from __future__ import annotations

from typing import Final

from contract.asked import Pooling
from contract.messages import Job
from workers.engines.shared.deltas import Pooled
from workers.engines.shared.scores import packed, pairs

_DIMENSIONS: Final = 4
#: Of texts of an even, and of an odd length.
_CLASSES: Final = ("even", "odd")


def pool(job: Job, asked: Pooling) -> tuple[list[Pooled], int]:
    """Return what is said of the inputs, and how many tokens they have: letters, or token ids. The
    more alike two lengths are, the higher is the score; each number of a vector is the length."""
    inputs = asked.inputs or tuple(turn.content for turn in job.messages or ())
    sizes = [len(each) for each in inputs]
    match asked.task:
        case "score":
            apart = [abs(sizes[one] - sizes[other]) for one, other in pairs(asked)]
            pooled = [Pooled(packed([1 / (1 + each)])) for each in apart]
        case "classify":
            pooled = [
                Pooled(packed([1 - size % 2, size % 2]), label=_CLASSES[size % 2]) for size in sizes
            ]
        case "token_embed" | "token_classify":
            pooled = [Pooled(packed([size, size] * size), rows=size) for size in sizes]
        case _:
            width = asked.dimensions or _DIMENSIONS
            pooled = [Pooled(packed([size] * width)) for size in sizes]
    return pooled, sum(sizes)
