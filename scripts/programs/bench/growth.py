"""Whether the cost of a token, or of an open stream, grows with how much there is of it."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from load import LoadGenerator, completion
from report import table, write
from stand import Build, Stand, builds, settle
from wire import Round, measure, mock_config

#: Slow enough for two cores to keep up with the most streams.
_STEPS_PER_S = 20
_LEVELS = (16, 64, 256, 1024)
_TOKENS = 100
_MANY_MODELS = 50
_IDLE_STREAMS = 1000
_QUEUED = 10_000
_SLOTS = 64
#: No gateway puts fewer on two cores, even busy ones.
_QUEUES_PER_S = 200
#: So long it may take until a gateway's streams are in the status.
_HEARD_WITHIN_S = 8


def run(args: argparse.Namespace) -> None:
    """All of it, on each build; each part is told, and written, when it is known."""
    with builds(args.against) as compared:
        generator = LoadGenerator()
        found: dict[str, dict[str, float]] = {build.label: {} for build in compared}
        for part in (_streams_of, _models_of, _queue_of):
            before = set(next(iter(found.values())))
            for label, figures in part(compared, generator, args.rounds):
                found[label] |= figures
            for name in next(iter(found.values())):
                if name not in before:
                    row = ["", *(each[name] for each in found.values())]
                    print(table([name, *found], [row]), flush=True)
            write(args.json, f"growth, {_STEPS_PER_S} steps/s, {_TOKENS} tokens", found)


_Figures = Iterator[tuple[str, dict[str, float]]]


def _streams_of(compared: list[Build], generator: LoadGenerator, rounds: int) -> _Figures:
    for build in compared:
        with Stand(build, mock_config(_STEPS_PER_S)) as stand:
            figures = _by_streams(stand, generator, rounds)
            figures["KiB/idle stream"] = _idle_stream_kib(stand, generator)
            yield build.label, figures


def _models_of(compared: list[Build], generator: LoadGenerator, rounds: int) -> _Figures:
    for build in compared:
        with (
            Stand(build, mock_config(_STEPS_PER_S)) as few,
            Stand(build, _config_of_many()) as many,
        ):
            yield build.label, _by_models(few, many, generator, rounds)


def _queue_of(compared: list[Build], generator: LoadGenerator, rounds: int) -> _Figures:
    for build in compared:
        config = mock_config(_STEPS_PER_S, max_batch_size=_SLOTS)
        config["limits"] |= {"first_token_timeout_s": 600, "queue_timeout_s": 600}
        # Beyond the usual 8192.
        config["gateway"] = {"max_connections": 2 * _QUEUED}
        with Stand(build, config) as stand:
            yield build.label, _by_queue(stand, generator)


def _cost(rounds: list[Round]) -> float:
    return statistics.median(each.per_million(sum(each.cpu)) for each in rounds)


def _by_streams(stand: Stand, generator: LoadGenerator, rounds: int) -> dict[str, float]:
    measure(stand, generator, 16, 16)
    return {
        f"CPU at C={streams}": _cost(
            [measure(stand, generator, streams, _TOKENS) for _ in range(rounds)]
        )
        for streams in _LEVELS
    }


def _idle_stream_kib(stand: Stand, generator: LoadGenerator) -> float:
    """Private memory of the gateway for each stream that waits for its next token."""
    before = stand.resident_bytes("gateway")
    with _streams(stand, generator, _IDLE_STREAMS, "[[hang_at=1]] wait"):
        time.sleep(3)
        return (stand.resident_bytes("gateway") - before) / _IDLE_STREAMS / 1024


@contextmanager
def _streams(
    stand: Stand, generator: LoadGenerator, streams: int, prompt: str, beside: int = 0
) -> Iterator[None]:
    """So many open streams more than there are."""
    if not streams:
        yield
        return
    body = completion("mock", 30_000, prompt)
    command = generator.command(stand.port, "/v1/completions", body, streams, stand.key)
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(stand, streams + beside)
        yield
    finally:
        load.kill()
        load.wait()


def _wait_for(stand: Stand, streams: int) -> None:
    deadline = time.monotonic() + 120
    while stand.status()["gateway"]["open_streams"] < streams:
        if time.monotonic() > deadline:
            raise SystemExit(f"{streams} streams were not open in time")
        time.sleep(0.2)


def _config_of_many() -> dict[str, Any]:
    """As many models as a configuration may well have, of which one runs."""
    config = mock_config(_STEPS_PER_S)
    others = {
        f"mock-{number}": config["models"]["mock"] | {"load": "on-demand"}
        for number in range(1, _MANY_MODELS)
    }
    return config | {"models": config["models"] | others}


def _by_models(few: Stand, many: Stand, generator: LoadGenerator, rounds: int) -> dict[str, float]:
    found: dict[Stand, list[Round]] = {few: [], many: []}
    for _ in range(rounds):
        for stand, measured in found.items():
            measured.append(measure(stand, generator, 64, _TOKENS))
    return {
        "CPU, 1 model": _cost(found[few]),
        f"CPU, {_MANY_MODELS} models": _cost(found[many]),
        "idle %, 1 model": _idle_percent(few),
        f"idle %, {_MANY_MODELS} models": _idle_percent(many),
    }


def _idle_percent(stand: Stand) -> float:
    """Of one core, by gateway, Valkey and worker together, while nothing is asked."""
    settle()
    before, began = stand.cpu(), time.monotonic()
    time.sleep(5)
    return 100 * sum(stand.cpu().since(before)) / (time.monotonic() - began)


def _by_queue(stand: Stand, generator: LoadGenerator) -> dict[str, float]:
    """Running answers beside a long queue: they have their places when it comes."""
    (gap, cost), (crowded_gap, crowded_cost) = (
        _beside(stand, generator, waiting) for waiting in (0, _QUEUED)
    )
    return {
        "gap p99 ms, no queue": gap,
        f"gap p99 ms, {_QUEUED} queued": crowded_gap,
        "CPU, no queue": cost,
        f"CPU, {_QUEUED} queued": crowded_cost,
    }


def _beside(stand: Stand, generator: LoadGenerator, waiting: int) -> tuple[float, float]:
    """The gaps between tokens, in ms, and the CPU, of answers that all begin some time after they
    have their places; by then, so many other jobs wait."""
    delay_s = _HEARD_WITHIN_S + waiting / _QUEUES_PER_S
    began = time.monotonic()
    body = completion("mock", _TOKENS, f"[[first_token_delay_s={delay_s:g}]]")
    command = generator.command(stand.port, "/v1/completions", body, _SLOTS, stand.key)
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    _wait_for(stand, _SLOTS)
    with _streams(stand, generator, waiting, "wait", beside=_SLOTS):
        time.sleep(max(0.0, began + delay_s + 0.5 - time.monotonic()))
        before, since = stand.cpu(), time.monotonic()
        time.sleep(_TOKENS / _STEPS_PER_S - 1.5)
        tokens = _SLOTS * _STEPS_PER_S * (time.monotonic() - since)
        used = sum(stand.cpu().since(before))
        told, _ = load.communicate()
    return json.loads(told)["gap_p99_ms"], used / tokens * 1e6
