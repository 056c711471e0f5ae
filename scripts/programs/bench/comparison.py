"""Servers of this host beside each other, by their completions API, each in turn in each round."""

from __future__ import annotations

import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from load import Load, LoadGenerator, completion
from report import table
from stand import Stand, tree_cpu_s

#: vLLM's processes look for each other's word without a pause for a second after the last one, and
#: would take the cores from the server that is asked next.
_SPIN_S = 1.2
#: Of one core. A load generator that takes more may be what is measured.
_LOAD_LIMIT_PERCENT = 70.0
#: Of a round: CPU is told in steps of 10 ms, and one answer says little of first tokens.
_LEAST_ANSWERS = 16
#: The CPU of the processes that compute a model, which is no part of a server's own.
_ENGINE = "engine"


class Server(NamedTuple):
    """Where it listens, on loopback, and the processes whose CPU counts, with their children. Each
    has the name of its part of the server, which may be empty. A server with a process group
    stands still while another one is asked."""

    label: str
    port: int
    model: str
    key: str = ""
    pids: tuple[tuple[str, int], ...] = ()
    group: int | None = None

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each part until now; those that compute a model apart."""
        used: dict[str, float] = {}
        for part, pid in self.pids:
            own_s, engine_s = tree_cpu_s(pid)
            used[part] = used.get(part, 0.0) + own_s
            if engine_s:
                used[_ENGINE] = used.get(_ENGINE, 0.0) + engine_s
        return used

    def signal(self, number: signal.Signals) -> None:
        if self.group is not None:
            os.killpg(self.group, number)


def of_ew(stand: Stand, model: str) -> Server:
    """A started ew, with the parts that take CPU for each token."""
    parts = [("gateway", stand.status()["gateway"]["pid"])]
    parts += [("valkey", pid) for pid in stand.pids("valkey")]
    parts += [("front", pid) for pid in stand.pids("worker")]
    return Server("ew", stand.port, model, stand.key, tuple(parts))


def compare(
    servers: list[Server],
    levels: list[int],
    rounds: int,
    tokens: int,
    keep: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Measure each level of concurrency, and print one table of all. However it ends, `keep` was
    told of the levels that were measured, and they are printed."""
    generator = LoadGenerator()
    results: list[dict[str, Any]] = []
    try:
        for server in servers:
            with _alone(server, servers):
                _load(generator, server, 8, 16)
        for streams in levels:
            found: dict[str, list[dict[str, float]]] = {each.label: [] for each in servers}
            for number in range(rounds):
                for server in servers if number % 2 else servers[::-1]:
                    with _alone(server, servers):
                        figures = _measure(generator, server, servers, streams, tokens)
                    found[server.label].append(figures)
                _tell(f"{streams} streams, round {number + 1} of {rounds}: {_speeds(found)}")
            results.append(_level(streams, found))
            keep(results)
    finally:
        for server in servers:
            server.signal(signal.SIGCONT)
        if results:
            print(_table(results), flush=True)


@contextmanager
def _alone(server: Server, servers: list[Server]) -> Iterator[None]:
    """The others stand still, if they can, and take none of the cores."""
    for each in servers:
        each.signal(signal.SIGCONT if each is server else signal.SIGSTOP)
    time.sleep(_SPIN_S)
    yield


def _measure(
    generator: LoadGenerator, server: Server, servers: list[Server], streams: int, tokens: int
) -> dict[str, float]:
    before = [each.cpu_s() for each in servers]
    number = math.ceil(_LEAST_ANSWERS / streams)
    load = together([_load(generator, server, streams, tokens) for _ in range(number)])
    used = [_since(each.cpu_s(), then) for each, then in zip(servers, before, strict=True)]
    own = used.pop(servers.index(server))
    others_s = sum(sum(each.values()) for each in used)
    return _figures(load, tokens, own) | {
        "load %": 100 * load.load_cpu_s / load.wall_s,
        "others %": 100 * others_s / load.wall_s,
        "errors": load.streams - load.good,
    }


def _load(generator: LoadGenerator, server: Server, streams: int, tokens: int) -> Load:
    body = completion(server.model, tokens)
    return generator.run(server.port, "/v1/completions", body, streams, server.key)


def together(loads: list[Load]) -> Load:
    """Loads that came one after the other. Times are the medians of theirs, the p99 of first tokens
    the largest."""
    return Load(
        streams=sum(each.streams for each in loads),
        good=sum(each.good for each in loads),
        events=sum(each.events for each in loads),
        wall_s=sum(each.wall_s for each in loads),
        ttft_p50_ms=statistics.median(each.ttft_p50_ms for each in loads),
        ttft_p99_ms=max(each.ttft_p99_ms for each in loads),
        gap_p50_ms=statistics.median(each.gap_p50_ms for each in loads),
        gap_p99_ms=statistics.median(each.gap_p99_ms for each in loads),
        load_cpu_s=sum(each.load_cpu_s for each in loads),
    )


def _since(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {part: used - before.get(part, 0.0) for part, used in now.items()}


def _figures(load: Load, tokens: int, cpu_s: dict[str, float]) -> dict[str, float]:
    """Tokens are counted by the requests that ended well: a chunk may have several. CPU is of all
    parts but the engine, and of each that has a name."""
    generated = load.good * tokens

    def per_million(used_s: float) -> float:
        return used_s / generated * 1e6 if generated else 0.0

    return {
        "tok/s": generated / load.wall_s,
        "TTFT p50 ms": load.ttft_p50_ms,
        "TTFT p99 ms": load.ttft_p99_ms,
        "gap p99 ms": load.gap_p99_ms,
        "CPU": per_million(sum(used_s for part, used_s in cpu_s.items() if part != _ENGINE)),
        **{part: per_million(used_s) for part, used_s in cpu_s.items() if part},
    }


def _level(streams: int, found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, with how far the rounds were apart, in percent of them; errors of all rounds."""
    servers = {}
    spread = {}
    for label, rounds in found.items():
        by_name = {name: [each[name] for each in rounds] for name in rounds[0]}
        servers[label] = {name: statistics.median(each) for name, each in by_name.items()}
        servers[label]["errors"] = sum(by_name["errors"])
        spread[label] = {
            name: 100 * (max(each) - min(each)) / servers[label][name]
            for name, each in by_name.items()
            if name != "errors" and servers[label][name]
        }
    return {"streams": streams, "servers": servers, "spread %": spread, "rounds": found}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _speeds(found: dict[str, list[dict[str, float]]]) -> str:
    newest = ((label, rounds[-1]["tok/s"]) for label, rounds in found.items())
    return ", ".join(f"{label} {speed:.0f} tok/s" for label, speed in newest)


def _table(results: list[dict[str, Any]]) -> str:
    """For each level each server, and the first by each other. Not all have the same parts."""
    servers = [each for level in results for each in level["servers"].values()]
    names = list(dict.fromkeys(name for each in servers for name in each))
    # Parts of a server that another one lacks come before what all have in the end.
    last = ["load %", "others %", "errors"]
    names = [name for name in names if name not in last] + last
    rows = [row for level in results for row in _rows(level, names)]
    busy = any(each["load %"] > _LOAD_LIMIT_PERCENT for each in servers)
    hint = f"\nthe load took more than {_LOAD_LIMIT_PERCENT:.0f} % of a core: it may be the limit"
    return table(["streams, server", *names], rows) + (hint if busy else "")


def _rows(level: dict[str, Any], names: list[str]) -> Iterator[list[object]]:
    streams, servers = level["streams"], level["servers"]
    for label, found in servers.items():
        yield [f"{streams} {label}", *(found.get(name, "") for name in names)]
        spread = level["spread %"][label]
        words = (f"{spread[name]:.0f} %" if name in spread else "" for name in names)
        yield ["  (max - min) / median", *words]
    (first, own), *others = servers.items()
    for label, found in others:
        ratios = (_ratio(own.get(name), found.get(name)) for name in names)
        yield [f"{streams} {first} / {label}", *ratios]


def _ratio(this: float | None, other: float | None) -> object:
    return this / other if this is not None and other else ""
