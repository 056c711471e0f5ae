"""The cost of open pages of the console: CPU of the gateway at rest, and what streams beside them
see.

A page is what a browser asks for it: the stream of the status, and for `requests` the list every
two seconds, too. Rounds with and without pages take turns on one gateway.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from load import LoadGenerator
from report import table, write
from stand import ROOT, Build, Stand, settle
from wire import Round, measure, mock_config

_ADMIN: Final = "/api/v1/admin"
_MODELS: Final = 15
_REST_S: Final = 20.0
_LOOK_EVERY_S: Final = 2.0
_TOKENS: Final = 256
_STREAMS: Final = 64
#: Pages at once: one is within the noise of a clock that ticks every 10 ms.
_PAGES: Final = 10


def run(args: argparse.Namespace) -> None:
    """Measure at rest, then beside streams."""
    config = mock_config(200)
    others = {
        f"other-{number}": {**config["models"]["mock"], "load": "on-demand"}
        for number in range(1, _MODELS)
    }
    config["models"] |= others
    with Stand(Build("this", ROOT), config) as stand:
        stand.key = stand.ew("keys", "add", "operator", "--admin").split()[-1]
        generator = LoadGenerator()
        measure(stand, generator, 16, 32)
        rest = _at_rest(stand, args.rounds)
        print(table(["pages at rest", "% of a core", "for one page"], rest) + "\n", flush=True)
        beside = _beside_streams(stand, generator, args.rounds)
        print(table([f"C={_STREAMS}", "tok/s", "gap p99 ms", "gateway"], beside))
        columns = {"at rest": rest, "beside streams": beside}
        write(args.json, f"console, {_PAGES} pages, {_MODELS} models, {_REST_S} s at rest", columns)


def _at_rest(stand: Stand, rounds: int) -> list[list[object]]:
    """Return the rows: CPU of the gateway in percent of a core, and what one page adds."""
    views: dict[str, Callable[[Stand], None] | None] = {
        "none": None,
        "now": _now,
        "requests": _requests,
    }
    found: dict[str, list[float]] = {name: [] for name in views}
    for _ in range(rounds):
        for name, view in views.items():
            with _open(stand, view):
                time.sleep(3)
                before, began = stand.cpu().gateway, time.monotonic()
                time.sleep(_REST_S)
                used = stand.cpu().gateway - before
                found[name].append(100 * used / (time.monotonic() - began))
    medians = {name: statistics.median(each) for name, each in found.items()}
    base = medians["none"]
    return [
        [
            name if name == "none" else f"{_PAGES} x {name}",
            each,
            (each - base) / _PAGES if name != "none" else "",
        ]
        for name, each in medians.items()
    ]


def _beside_streams(stand: Stand, generator: LoadGenerator, rounds: int) -> list[list[object]]:
    """Return the rows: streams without pages, beside one, and the ratio."""
    found: dict[str, list[Round]] = {"no page": [], "one page": []}
    for number in range(rounds):
        for name in found if number % 2 else [*found][::-1]:
            with _open(stand, _requests if name == "one page" else None, pages=1):
                settle()
                found[name].append(measure(stand, generator, _STREAMS, _TOKENS))
    figures = {
        name: [
            statistics.median(each.tokens_per_s for each in all_of),
            statistics.median(each.load.gap_p99_ms for each in all_of),
            statistics.median(each.per_million(each.cpu.gateway) for each in all_of),
        ]
        for name, all_of in found.items()
    }
    without, beside = figures.values()
    ratio = [one / other for one, other in zip(beside, without, strict=True)]
    return [[name, *each] for name, each in figures.items()] + [["ratio", *ratio]]


@contextmanager
def _open(
    stand: Stand, view: Callable[[Stand], None] | None, pages: int = _PAGES
) -> Iterator[None]:
    """Have pages open meanwhile."""
    if view is None:
        yield
        return
    over = threading.Event()
    threads = [threading.Thread(target=_follow, args=(stand, view, over)) for _ in range(pages)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _follow(stand: Stand, view: Callable[[Stand], None], over: threading.Event) -> None:
    connection = _connection(stand)
    connection.request("GET", f"{_ADMIN}/status/stream", headers={"X-API-Key": stand.key})
    stream = connection.getresponse()
    if stream.status != 200:
        raise SystemExit(f"the status is refused: {stream.read()!r}")
    reading = threading.Thread(target=_read_on, args=(stream,), daemon=True)
    reading.start()
    while not over.wait(_LOOK_EVERY_S):
        view(stand)
    connection.sock.shutdown(2)
    connection.close()


def _read_on(stream: http.client.HTTPResponse) -> None:
    try:
        while stream.read1(65536):
            pass
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        # It was closed under the reader; http.client says so as it comes.
        return


def _now(_: Stand) -> None:
    """This page asks for nothing more."""


def _requests(stand: Stand) -> None:
    connection = _connection(stand)
    connection.request("GET", f"{_ADMIN}/requests", headers={"X-API-Key": stand.key})
    connection.getresponse().read()
    connection.close()


def _connection(stand: Stand) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", stand.port, timeout=60)
