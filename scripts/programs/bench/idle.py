"""The memory that the gateway takes for streams which wait for their next token.

A gateway process that had many streams before has room for as many already. So each round has a new
one, and what counts is the slope over several numbers of streams.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from figures import Figure
from load import LoadGenerator
from open_streams import open_streams, wait_for
from stand import Build, Stand
from wire import measure

_AIM_KIB = 50
_LEVELS = (0, 256, 1024)
#: Each has had its first token.
_WAITS = "[[hang_at=1]] wait"
_SETTLES_S = 2.0


def memory(
    compared: list[Build], config: dict[str, Any], generator: LoadGenerator, rounds: int
) -> list[Figure]:
    """Measure it. Sockets are the kernel's, and not in it."""
    found: list[list[list[float]]] = [[] for _ in compared]
    for _ in range(rounds):
        for build, by_round in zip(compared, found, strict=True):
            with Stand(build, config) as stand:
                by_round.append(_kib_by_level(stand, generator))
    slopes = [
        statistics.median(statistics.linear_regression(_LEVELS, kib).slope for kib in by_round)
        for by_round in found
    ]
    by_level = [
        Figure(f"gateway MiB, {level} idle streams", [_mib(each, at) for each in found])
        for at, level in enumerate(_LEVELS)
    ]
    return [*by_level, Figure("KiB/idle stream", slopes, most=_AIM_KIB)]


def _mib(by_round: list[list[float]], at: int) -> float:
    return statistics.median(kib[at] for kib in by_round) / 1024


def _kib_by_level(stand: Stand, generator: LoadGenerator) -> list[float]:
    """A few requests first: what the first of all needs is not a stream's."""
    measure(stand, generator, 16, 16)
    wait_for(stand, 0)
    found = []
    with ExitStack() as stack:
        opened = 0
        for level in _LEVELS:
            if level > opened:
                more = open_streams(stand, generator, level - opened, _WAITS, beside=opened)
                stack.enter_context(more)
                opened = level
            time.sleep(_SETTLES_S)
            found.append(stand.private_bytes("gateway") / 1024)
    return found
