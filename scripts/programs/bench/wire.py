"""The cost of ew between a client and an engine: the mock engine gives a token to each stream every
5 ms, so that all that is measured is ew's own."""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from typing import Any, NamedTuple

from load import Load, LoadGenerator, completion
from report import table, write
from stand import Cpu, Stand, builds, settle

_PATH = "/v1/completions"
_NEVER_REACHED = {
    "requests_per_minute": 10**9,
    "tokens_per_minute": 10**12,
    "open_requests": 10**9,
    "waiting_requests": 10**9,
    "waiting_bytes": 10**12,
    "tokens_per_day": 10**12,
    "tokens_per_month": 10**12,
}


class Round(NamedTuple):
    """One load on one build, and the CPU that it took there."""

    load: Load
    cpu: Cpu

    @property
    def tokens_per_s(self) -> float:
        return self.load.events / self.load.wall_s

    def per_million(self, seconds: float) -> float:
        return seconds / self.load.events * 1e6


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--limits", action="store_true", help="this build counts all limits")
    parser.add_argument("--processes", type=int, default=1, help="of the gateway (default: 1)")


def mock_config(steps_per_s: float, **model: Any) -> dict[str, Any]:
    """A configuration with one model of the mock engine."""
    mock = {
        "engine": "mock",
        "model_path": "mock",
        "max_batch_size": 4096,
        "engine_args": {"tokens_per_s": steps_per_s},
    }
    return {"models": {"mock": mock | model}, "limits": {"max_waiting": 20_000}}


def measure(stand: Stand, generator: LoadGenerator, streams: int, tokens: int) -> Round:
    """One load of so many streams at once."""
    settle()
    before = stand.cpu()
    load = generator.run(stand.port, _PATH, completion("mock", tokens), streams, stand.key)
    return Round(load, stand.cpu().since(before))


def run(args: argparse.Namespace) -> None:
    """Every level of concurrency, both builds in turn in each round."""
    with builds(args.against) as compared, ExitStack() as stack:
        generator = LoadGenerator()
        stands = [
            stack.enter_context(Stand(build, _config(args, is_own=build is compared[0])))
            for build in compared
        ]
        for stand in stands:
            measure(stand, generator, 16, 32)
        results = []
        for streams in args.streams:
            rounds: dict[str, list[Round]] = {stand.build.label: [] for stand in stands}
            for number in range(args.rounds):
                for stand in stands if number % 2 else stands[::-1]:
                    found = measure(stand, generator, streams, args.tokens)
                    rounds[stand.build.label].append(found)
            level = {label: _summary(found) for label, found in rounds.items()}
            results.append({"streams": streams, "builds": level})
            print(_text(level, streams), flush=True)
        what = f"wire, {args.processes} gateway processes, steps of {args.step_ms} ms"
        write(args.json, f"{what}, {args.tokens} tokens", results)


def _config(args: argparse.Namespace, *, is_own: bool) -> dict[str, Any]:
    config = mock_config(1000 / args.step_ms) | {"gateway": {"processes": args.processes}}
    if args.limits and is_own:
        config["limits"]["per_key"] = _NEVER_REACHED
    return config


def _summary(rounds: list[Round]) -> dict[str, float]:
    """Medians over the rounds; CPU in seconds per million tokens."""
    by_round = [
        {
            "tok/s": each.tokens_per_s,
            "TTFT p50 ms": each.load.ttft_p50_ms,
            "TTFT p99 ms": each.load.ttft_p99_ms,
            "gap p99 ms": each.load.gap_p99_ms,
            "gateway": each.per_million(each.cpu.gateway),
            "valkey": each.per_million(each.cpu.valkey),
            "worker": each.per_million(each.cpu.worker),
            "all": each.per_million(sum(each.cpu)),
            "load": each.per_million(each.load.load_cpu_s),
            "errors": each.load.streams - each.load.good,
        }
        for each in rounds
    ]
    return {name: statistics.median(each[name] for each in by_round) for name in by_round[0]}


def _text(level: dict[str, dict[str, float]], streams: int) -> str:
    columns = [f"C={streams}", *next(iter(level.values()))]
    rows: list[list[object]] = [[label, *found.values()] for label, found in level.items()]
    if len(level) == 2:
        this, other = level.values()
        ratios = [this[name] / other[name] if other[name] else "" for name in this]
        rows.append(["ratio", *ratios])
    return table(columns, rows) + "\n"
