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
    """Where it listens, on loopback, and the processes whose CPU counts, with their children."""

    label: str
    url: str
    model: str
    key: str = ""
    pids: tuple[int, ...] = ()

    def cpu_s(self) -> float:
        return sum(map(tree_cpu_s, self.pids))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--key", default=os.environ.get("EW_API_KEY", ""))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--against", metavar="URL", help="another server, as vllm serve's /v1")
    parser.add_argument("--against-model", metavar="NAME")
    for option in ("--pids", "--against-pids"):
        parser.add_argument(option, type=_pids, default=(), metavar="PID,...")


def _pids(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def run(args: argparse.Namespace) -> None:
    """Every level of concurrency, each server in turn in each round."""
    servers = [Server("this", args.url, args.model, args.key, args.pids)]
    if args.against:
        model = args.against_model or args.model
        servers.append(Server("against", args.against, model, args.key, args.against_pids))
    results = compare(servers, args.streams, args.rounds, args.tokens)
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
                used = server.cpu_s() - before
                found[server.label].append(_figures(load, tokens, used))
        level = {label: _medians(each) for label, each in found.items()}
        results.append({"streams": streams, "servers": level})
        columns = [f"C={streams}", *next(iter(level.values()))]
        rows: list[list[object]] = [[label, *each.values()] for label, each in level.items()]
        first, *others = level.items()
        rows += [
            [f"{first[0]} / {label}", *(_ratio(first[1][name], each[name]) for name in each)]
            for label, each in others
        ]
        print(table(columns, rows) + "\n", flush=True)
    return results


def _load(generator: LoadGenerator, server: Server, streams: int, tokens: int) -> Load:
    time.sleep(_SPIN_S)
    where = urlsplit(server.url)
    if where.hostname not in ("127.0.0.1", "localhost") or where.port is None:
        raise SystemExit(f"{server.url}: name a port of 127.0.0.1")
    body = completion(server.model, tokens)
    return generator.run(where.port, f"{where.path}/completions", body, streams, server.key)


def _figures(load: Load, tokens: int, cpu_s: float) -> dict[str, float]:
    """Tokens are counted by the requests that ended well: a chunk may have several."""
    generated = load.good * tokens
    return {
        "tok/s": generated / load.wall_s,
        "TTFT p50 ms": load.ttft_p50_ms,
        "TTFT p99 ms": load.ttft_p99_ms,
        "gap p99 ms": load.gap_p99_ms,
        "CPU": cpu_s / generated * 1e6 if generated else 0.0,
        "load": load.load_cpu_s / generated * 1e6 if generated else 0.0,
        "errors": load.streams - load.good,
    }


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _ratio(this: float, other: float) -> object:
    return this / other if other else ""
