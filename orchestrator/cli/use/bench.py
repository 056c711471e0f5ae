"""`ew bench`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer

from orchestrator.benchmark.chart import bars, remarks, table
from orchestrator.benchmark.load_test import PATHS, LoadTest, Sweep
from orchestrator.benchmark.measurement import BenchResult, MeasuredServer, Measurement
from orchestrator.benchmark.recording import read_recording
from orchestrator.benchmark.svg import picture
from orchestrator.cli.use.servers import other_server, own_servers
from orchestrator.errors import UserError
from orchestrator.system.files import write_atomically
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import printable, report

_MOST_STREAMS: Final = 20_000


def bench(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    streams: Annotated[
        str, typer.Option(metavar="LIST", help="How many answers at once, one run each.")
    ] = "1,4,16,64",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="The time of each run; 10 if not given. A recording has as long as it needs.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="The tokens of each answer.")] = 128,
    prompt_words: Annotated[int, typer.Option(min=1, help="The words of each prompt.")] = 100,
    natural_end: Annotated[
        bool, typer.Option("--natural-end", help="Let answers end earlier, where the model ends.")
    ] = False,
    api: Annotated[str, typer.Option(metavar="API", help="chat or completions.")] = "chat",
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Send recorded requests instead.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.001, help="So many times as fast as they were recorded.")
    ] = 1.0,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Another server instead of this ew, as http://HOST:8000/v1."
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="URL", help="A second server, to compare with.")
    ] = None,
    against_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the model is called there.")
    ] = None,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of load that do not count.")] = 3.0,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Of the load generator; as many as it needs if not given."
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the results as a picture.")
    ] = None,
) -> None:
    """Measure how many answers at once a model gives, and how fast.

    Each stream asks again as soon as it was answered, until its run is over. Ctrl-C shows what was
    measured until then. Uses the key in EW_API_KEY, or one of its own; for other servers that in
    OPENAI_API_KEY.
    """
    levels = _levels(streams)
    if api not in PATHS:
        raise UserError(f"`--api {api}` is not known", "chat or completions")
    output = _Output(json, svg)
    with ExitStack() as stack:
        servers = (
            [other_server("server", url, model)] if url else own_servers([model], "bench", stack)
        )
        if against:
            servers.append(other_server("against", against, against_model or model))
        result = BenchResult(
            began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            settings={"api": api, "tokens": tokens, "prompt_words": prompt_words}
            if replay is None
            else {"replay": replay.name, "speed": speed},
            servers=[MeasuredServer(each.name, each.endpoint.url, each.model) for each in servers],
        )
        progress = Progress()
        test = LoadTest(servers, processes, progress.update)
        if replay is None:
            sweep = Sweep(levels, seconds or 10.0, warm_up, tokens, prompt_words, api, natural_end)
            runs = test.sweep(sweep)
        else:
            recordings = [read_recording(replay, each.model, speed) for each in servers]
            runs = test.replay(recordings, seconds)
        _collect(runs, result, output, progress)


class _Output(NamedTuple):
    """The files that were asked for, and the terminal."""

    json: Path | None
    svg: Path | None

    def write(self, result: BenchResult) -> None:
        """After each run: who reads along sees how far it is, and nothing is lost."""
        if self.json is not None:
            write_atomically(self.json, msgspec.json.format(msgspec.json.encode(result)) + b"\n")
        if self.svg is not None:
            write_atomically(self.svg, picture(result).encode())

    def show(self, result: BenchResult) -> None:
        shown = [*table(result), "", *bars(result), "", *remarks(result)]
        report(printable(line) for line in shown)


def _collect(
    runs: Iterator[Measurement], result: BenchResult, output: _Output, progress: Progress
) -> None:
    """Do the runs; show what there is also if they end early."""
    try:
        for run in runs:
            result.runs.append(run)
            output.write(result)
    finally:
        progress.clear()
        if result.runs:
            output.show(result)
    if not any(run.requests.good or sum(run.tokens_by_second) for run in result.runs):
        raise UserError("no request was answered", "the errors above say why")


def _levels(text: str) -> list[int]:
    try:
        levels = [int(word) for word in text.split(",")]
    except ValueError:
        levels = [0]
    if not all(0 < each <= _MOST_STREAMS for each in levels):
        message = f"`--streams {text}` is no list of numbers from 1 to {_MOST_STREAMS}"
        raise UserError(message, "as 1,8,64")
    return levels
