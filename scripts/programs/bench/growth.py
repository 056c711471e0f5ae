"""Whether the cost of a token, or of an open stream, grows with how much there is of it."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import idle  # its folder is on the path
import queued
from figures import Figure, flat, rows
from load import LoadGenerator
from report import table, write
from stand import Build, Stand, builds, settle
from wire import measure, mock_config

#: Slow enough for two cores to keep up with the most streams.
_STEPS_PER_S = 20
_STREAMS_OF_MODELS = 64
_AT_REST_S = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--part",
        action="append",
        choices=_PARTS,
        help="only this part; may be given several times (default: all)",
    )
    parser.add_argument("--streams", type=_levels, default=[16, 64, 256, 1024])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--models", type=int, default=50, help="beside a configuration with one")
    parser.add_argument("--queued", type=int, default=10_000, help="jobs that wait")


def _levels(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def run(args: argparse.Namespace) -> None:
    """All parts, each on all builds in turn; a part is told, and written, when it is known."""
    with builds(args.against) as compared:
        labels = [build.label for build in compared]
        generator = LoadGenerator()
        found: list[Figure] = []
        for part in args.part or _PARTS:
            figures = _PARTS[part](compared, generator, args)
            print(table([part, *labels, "aim", ""], rows(figures)) + "\n", flush=True)
            found += figures
            results = {
                "aims": {each.name: each.aim for each in found if each.aim},
                "builds": {
                    label: {each.name: each.found[number] for each in found}
                    for number, label in enumerate(labels)
                },
            }
            what = f"growth, {_STEPS_PER_S} steps/s, {args.tokens} tokens, {args.rounds} rounds"
            write(args.json, what, results)


def _streams(
    compared: list[Build], generator: LoadGenerator, args: argparse.Namespace
) -> list[Figure]:
    """The cost of a token by the number of streams."""
    with ExitStack() as stack:
        stands = _started(stack, compared, mock_config(_STEPS_PER_S))
        costs = {
            streams: _costs(stands, generator, streams, args.tokens, args.rounds)
            for streams in args.streams
        }
    figures = [Figure(f"CPU at C={streams}", cost) for streams, cost in costs.items()]
    if len(costs) > 1:
        first, *_, last = args.streams
        figures.append(flat(f"CPU, C={last} / C={first}", costs[last], costs[first]))
    return figures


def _models(
    compared: list[Build], generator: LoadGenerator, args: argparse.Namespace
) -> list[Figure]:
    """The cost of a token, and of rest, by the number of models."""
    with ExitStack() as stack:
        few = _started(stack, compared, mock_config(_STEPS_PER_S))
        many = _started(stack, compared, _config_of_many(args.models))
        costs = _costs(few + many, generator, _STREAMS_OF_MODELS, args.tokens, args.rounds)
        rest = _medians(few + many, _percent_at_rest, args.rounds)
    half = len(compared)
    return [
        Figure("CPU, 1 model", costs[:half]),
        Figure(f"CPU, {args.models} models", costs[half:]),
        flat(f"CPU, {args.models} models / 1", costs[half:], costs[:half]),
        Figure("% of a core at rest, 1 model", rest[:half]),
        Figure(f"% of a core at rest, {args.models} models", rest[half:]),
    ]


def _memory(
    compared: list[Build], generator: LoadGenerator, args: argparse.Namespace
) -> list[Figure]:
    return idle.memory(compared, mock_config(_STEPS_PER_S), generator, args.rounds)


def _queue(
    compared: list[Build], generator: LoadGenerator, args: argparse.Namespace
) -> list[Figure]:
    config = queued.config(mock_config(_STEPS_PER_S), args.queued)
    with ExitStack() as stack:
        stands = _started(stack, compared, config)
        return queued.beside_queue(stands, generator, args.queued, args.rounds)


_PARTS = {"streams": _streams, "models": _models, "memory": _memory, "queue": _queue}


def _started(stack: ExitStack, compared: list[Build], config: dict[str, Any]) -> list[Stand]:
    return [stack.enter_context(Stand(build, config)) for build in compared]


def _config_of_many(models: int) -> dict[str, Any]:
    """As many models as a configuration may well have, of which one runs."""
    config = mock_config(_STEPS_PER_S)
    others = {
        f"mock-{number}": config["models"]["mock"] | {"load": "on-demand"}
        for number in range(1, models)
    }
    return config | {"models": config["models"] | others}


def _costs(
    stands: list[Stand], generator: LoadGenerator, streams: int, tokens: int, rounds: int
) -> list[float]:
    """CPU seconds of a million tokens on each stand."""

    def cost(stand: Stand) -> float:
        found = measure(stand, generator, streams, tokens)
        return found.per_million(sum(found.cpu))

    for stand in stands:
        measure(stand, generator, 16, 16)
    return _medians(stands, cost, rounds)


def _medians(stands: list[Stand], figure: Callable[[Stand], float], rounds: int) -> list[float]:
    """One figure of each stand; they are measured in turn."""
    found: list[list[float]] = [[] for _ in stands]
    for _ in range(rounds):
        for stand, values in zip(stands, found, strict=True):
            values.append(figure(stand))
    return [statistics.median(values) for values in found]


def _percent_at_rest(stand: Stand) -> float:
    """Of one core, by gateway, Valkey and worker together, while nothing is asked."""
    settle()
    before, began = stand.cpu(), time.monotonic()
    time.sleep(_AT_REST_S)
    return 100 * sum(stand.cpu().since(before)) / (time.monotonic() - began)
