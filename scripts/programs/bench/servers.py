"""Any two OpenAI-compatible servers of this host that run already, by their completions API."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from load import Load, LoadGenerator, completion
from report import table, write
from stand import tree_cpu_s

#: vLLM's processes look for each other's word without a pause for a second after the last one, and
#: would take the cores from the server that is asked next.
_SPIN_S = 1.2


class Server(NamedTuple):
    """Where it listens, on loopback, and the processes whose CPU counts, with their children. Each
    has the name of its part of the server, which may be empty."""

    label: str
    url: str
    model: str
    key: str = ""
    pids: tuple[tuple[str, int], ...] = ()

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each part until now."""
        used: dict[str, float] = {}
        for part, pid in self.pids:
            used[part] = used.get(part, 0.0) + tree_cpu_s(pid)
        return used


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--key", default=os.environ.get("EW_API_KEY", ""))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--against", metavar="URL", help="another server, as vllm serve's /v1")
    parser.add_argument("--against-model", metavar="NAME")
    for option in ("--pids", "--against-pids"):
        about = "processes whose CPU counts; where parts are named, that of each is shown, too"
        parser.add_argument(option, type=_pids, default=(), metavar="[PART=]PID,...", help=about)


def _pids(text: str) -> tuple[tuple[str, int], ...]:
    words = (word.rpartition("=") for word in text.split(","))
    return tuple((part, int(pid)) for part, _, pid in words)


def run(args: argparse.Namespace) -> None:
    """Every level of concurrency, each server in turn in each round."""
    servers = [Server("this", args.url, args.model, args.key, args.pids)]
    if args.against:
        model = args.against_model or args.model
        servers.append(Server("against", args.against, model, args.key, args.against_pids))
    results: list[dict[str, Any]] = []
    for level in args.streams:
        # However the rest ends, the levels that were measured are kept.
        results += compare(servers, [level], args.rounds, args.tokens)
        write(args.json, f"servers, {args.tokens} tokens", results)


def compare(
    servers: list[Server], levels: list[int], rounds: int, tokens: int
) -> list[dict[str, Any]]:
    """Measure, and print a table for each level of concurrency. Answers what the tables have."""
    generator = LoadGenerator()
    for server in servers:
        _load(generator, server, 8, 16)
    results = []
    for streams in levels:
        found: dict[str, list[dict[str, float]]] = {each.label: [] for each in servers}
        for number in range(rounds):
            for server in servers if number % 2 else servers[::-1]:
                before = server.cpu_s()
                load = _load(generator, server, streams, tokens)
                used = {part: now - before[part] for part, now in server.cpu_s().items()}
                found[server.label].append(_figures(load, tokens, used))
        level = {label: _medians(each) for label, each in found.items()}
        results.append({"streams": streams, "servers": level, "rounds": found})
        print(_table(streams, level) + "\n", flush=True)
    return results


def _table(streams: int, level: dict[str, dict[str, float]]) -> str:
    """Each server, and the first by each other. Not all have the same parts."""
    names = list(dict.fromkeys(name for each in level.values() for name in each))
    rows: list[list[object]] = [
        [label, *(each.get(name, "") for name in names)] for label, each in level.items()
    ]
    first, *others = level.items()
    rows += [
        [f"{first[0]} / {label}", *(_ratio(first[1].get(name), each.get(name)) for name in names)]
        for label, each in others
    ]
    return table([f"C={streams}", *names], rows)


def _load(generator: LoadGenerator, server: Server, streams: int, tokens: int) -> Load:
    time.sleep(_SPIN_S)
    where = urlsplit(server.url)
    if where.hostname not in ("127.0.0.1", "localhost") or where.port is None:
        raise SystemExit(f"{server.url}: name a port of 127.0.0.1")
    body = completion(server.model, tokens)
    return generator.run(where.port, f"{where.path}/completions", body, streams, server.key)


def _figures(load: Load, tokens: int, cpu_s: dict[str, float]) -> dict[str, float]:
    """Tokens are counted by the requests that ended well: a chunk may have several. CPU is of all
    parts, and of each that has a name."""
    generated = load.good * tokens

    def per_million(used_s: float) -> float:
        return used_s / generated * 1e6 if generated else 0.0

    return {
        "tok/s": generated / load.wall_s,
        "TTFT p50 ms": load.ttft_p50_ms,
        "TTFT p99 ms": load.ttft_p99_ms,
        "gap p99 ms": load.gap_p99_ms,
        "CPU": per_million(sum(cpu_s.values())),
        **{part: per_million(used_s) for part, used_s in cpu_s.items() if part},
        "load": per_million(load.load_cpu_s),
        "errors": load.streams - load.good,
    }


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _ratio(this: float | None, other: float | None) -> object:
    return this / other if this is not None and other else ""
