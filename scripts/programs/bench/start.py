"""How long ew's own commands take, and a start of everything with the mock engine."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from report import table, write
from stand import Stand, builds
from wire import mock_config


def run(args: argparse.Namespace) -> None:
    """Each command in turn on each build, with Python's bytecode on disk and files in memory."""
    with builds(args.against) as compared, ExitStack() as stack:
        stands = [stack.enter_context(Stand(build, mock_config(200))) for build in compared]
        times: dict[str, dict[str, list[float]]] = {each.build.label: {} for each in stands}
        for _ in range(args.rounds):
            for stand in stands:
                for name, seconds in _measured(stand).items():
                    times[stand.build.label].setdefault(name, []).append(seconds)
        medians = {
            label: {name: 1000 * statistics.median(found) for name, found in each.items()}
            for label, each in times.items()
        }
        names = list(next(iter(medians.values())))
        print(table(["ms", *names], [[label, *each.values()] for label, each in medians.items()]))
        write(args.json, "start, medians in ms", medians)


def _measured(stand: Stand) -> dict[str, float]:
    """Seconds by command; ew is started again at the end."""

    def timed(work: Callable[[], object]) -> float:
        began = time.monotonic()
        work()
        return time.monotonic() - began

    found = {name: timed(lambda name=name: stand.ew(name)) for name in ("--help", "status")}
    stand.ew("stop", "--now")
    return {**found, "start": timed(stand.start)}
