"""Answers that run beside a long queue."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import time
from typing import Any, NamedTuple

from figures import Figure, not_slower
from load import LoadGenerator
from open_streams import open_streams
from stand import Stand

_SLOTS = 64
#: All streams have their steps together, so that one that is late is 0.5 % of the gaps.
_WATCHED_S = 10.0


class _Watched(NamedTuple):
    """The gaps between tokens, and CPU seconds per million of them."""

    gap_p99_ms: float
    cpu: float


def config(of_mock: dict[str, Any], queued: int) -> dict[str, Any]:
    """A model that runs some, while so many more may wait for long."""
    of_mock["models"]["mock"]["max_batch_size"] = _SLOTS
    of_mock["limits"] |= {
        "first_token_timeout_s": 600,
        "queue_timeout_s": 600,
        "max_waiting": 2 * queued,
    }
    return of_mock | {"gateway": {"max_connections": 2 * (queued + _SLOTS)}}


def beside_queue(
    stands: list[Stand], generator: LoadGenerator, queued: int, rounds: int
) -> list[Figure]:
    """Running answers, first alone and then beside the queue."""
    alone: list[list[_Watched]] = [[] for _ in stands]
    crowded: list[list[_Watched]] = [[] for _ in stands]
    for _ in range(rounds):
        for number, stand in enumerate(stands):
            with open_streams(stand, generator, _SLOTS, "run") as running:
                alone[number].append(_watch(stand, running))
            with (
                open_streams(stand, generator, _SLOTS, "run") as running,
                open_streams(stand, generator, queued, "wait", beside=_SLOTS),
            ):
                crowded[number].append(_watch(stand, running))
    gaps, crowded_gaps = _medians(alone, "gap_p99_ms"), _medians(crowded, "gap_p99_ms")
    return [
        Figure("gap p99 ms, no queue", gaps),
        Figure(f"gap p99 ms, {queued} queued", crowded_gaps),
        not_slower("gap p99, queue / none", crowded_gaps, gaps),
        Figure("CPU, no queue", _medians(alone, "cpu")),
        Figure(f"CPU, {queued} queued", _medians(crowded, "cpu")),
    ]


def _medians(found: list[list[_Watched]], name: str) -> list[float]:
    return [statistics.median(getattr(each, name) for each in by_round) for by_round in found]


def _watch(stand: Stand, running: subprocess.Popen[str]) -> _Watched:
    """Watch the answers from now on, for some seconds, and end them."""
    before = stand.cpu()
    running.send_signal(signal.SIGUSR1)
    time.sleep(_WATCHED_S)
    used = sum(stand.cpu().since(before))
    running.terminate()
    told = json.loads(running.communicate()[0])
    return _Watched(told["gap_p99_ms"], used / told["events"] * 1e6)
