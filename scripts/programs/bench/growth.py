"""Whether the cost of a token, or of an open stream, grows with how much there is of it."""

from __future__ import annotations

import argparse
import json
import signal
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
#: More tokens than any stream has come to when its part ends.
_ENDLESS = 30_000
_WATCHED_S = 5.0


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
) -> Iterator[subprocess.Popen[str]]:
    """So many open streams `beside` those that there are, by one process. They have no end."""
    _wait_for(stand, beside)
    body = completion("mock", _ENDLESS, prompt)
    command = generator.command(stand.port, "/v1/completions", body, streams, stand.key)
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        _wait_for(stand, beside + streams)
        yield load
    finally:
        load.kill()
        load.wait()


def _wait_for(stand: Stand, streams: int) -> None:
    """Until so many are open, as the status says, which is some seconds old."""
    deadline = time.monotonic() + 120
    while (found := stand.status()["gateway"]["open_streams"]) != streams:
        if time.monotonic() > deadline:
            raise SystemExit(f"{found} streams were open, not {streams}")
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
    """Running answers, first alone and then beside a long queue."""
    with _streams(stand, generator, _SLOTS, "run") as running:
        gap, cost = _watch(stand, running)
    with (
        _streams(stand, generator, _SLOTS, "run") as running,
        _streams(stand, generator, _QUEUED, "wait", beside=_SLOTS),
    ):
        crowded_gap, crowded_cost = _watch(stand, running)
    return {
        "gap p99 ms, no queue": gap,
        f"gap p99 ms, {_QUEUED} queued": crowded_gap,
        "CPU, no queue": cost,
        f"CPU, {_QUEUED} queued": crowded_cost,
    }


def _watch(stand: Stand, running: subprocess.Popen[str]) -> tuple[float, float]:
    """The gaps between tokens from now on, in ms, and the CPU. It ends what runs."""
    before = stand.cpu()
    running.send_signal(signal.SIGUSR1)
    time.sleep(_WATCHED_S)
    running.terminate()
    told = json.loads(running.communicate()[0])
    used = sum(stand.cpu().since(before))
    return told["gap_p99_ms"], used / told["events"] * 1e6
