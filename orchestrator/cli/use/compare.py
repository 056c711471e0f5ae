"""`ew compare`."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from orchestrator.benchmark.comparison.asking import Comparison
from orchestrator.benchmark.comparison.parity import AnswerPair
from orchestrator.benchmark.comparison.prompts import own_requests, read_requests
from orchestrator.benchmark.comparison.report import ComparisonReport, Parity, sides_of
from orchestrator.benchmark.comparison.table import comparison_lines
from orchestrator.benchmark.load_test import ServerUnderTest
from orchestrator.benchmark.measurement import MeasuredServer
from orchestrator.cli.use.servers import other_server, own_servers
from orchestrator.errors import UserError
from orchestrator.system.files import write_atomically
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import printable, report


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, or the same once more.")],
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A prompt a line, or *.jsonl: recorded requests. 24 of ew's own if not given.",
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=1, help="The tokens of an answer at most, if its request says none.")
    ] = 128,
    seed: Annotated[int, typer.Option(help="The seed of all requests.")] = 0,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Prompts at once.")] = 4,
    logprobs: Annotated[
        bool,
        typer.Option(
            "--logprobs/--no-logprobs", help="Compare log probabilities; it costs engines time."
        ),
    ] = True,
    against: Annotated[
        str | None,
        typer.Option(metavar="URL", help="B is at another server, as http://HOST:8000/v1."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write prompts and both answers, a line of JSON each."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Ask two models the same, and show how alike and how fast their answers are.

    Every request has temperature 0 and a seed. The model that is named answers: `fallback`, `split`
    and `shadow` do not count. Ctrl-C shows what was compared until then. Uses the key in
    EW_API_KEY, or one of its own; for another server that in OPENAI_API_KEY.
    """
    asked: dict[str, Any] = {"max_tokens": tokens, "temperature": 0, "seed": seed, "n": 1}
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    requests = own_requests(asked) if prompts is None else read_requests(prompts, asked)
    settings = {"prompts": prompts.name if prompts else "ew's own", "at_once": at_once}
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with ExitStack() as stack:
        servers = own_servers([a] if against else [a, b], "compare", stack)
        if against:
            servers.append(other_server("against", against, b))
        progress = Progress()
        comparison = Comparison(servers, progress.update, logprobs=logprobs)
        is_interrupted = True
        try:
            asyncio.run(comparison.run(requests, at_once))
            is_interrupted = False
        finally:
            progress.clear()
            if comparison.pairs:
                found = _report(began, settings | asked, servers, comparison, len(requests))
                found.is_interrupted = is_interrupted
                _write(found, comparison, answers, as_json=as_json)
    if not found.parity.compared:
        raise UserError("no prompt was answered by both", "the errors above say why")


def _report(
    began: str,
    settings: dict[str, Any],
    servers: list[ServerUnderTest],
    comparison: Comparison,
    prompts: int,
) -> ComparisonReport:
    return ComparisonReport(
        began=began,
        settings=settings,
        servers=[MeasuredServer(each.name, each.endpoint.url, each.model) for each in servers],
        prompts=prompts,
        is_interrupted=False,
        parity=Parity.of(comparison.pairs),
        sides=sides_of(comparison.pairs),
    )


def _write(
    found: ComparisonReport, comparison: Comparison, answers: Path | None, *, as_json: bool
) -> None:
    if answers is not None:
        lines = [msgspec.json.encode(_answered(pair)) for pair in comparison.pairs]
        write_atomically(answers, b"\n".join(lines) + b"\n")
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        shown = comparison_lines(found, comparison.without_logprobs())
        report(printable(line) for line in shown)


def _answered(pair: AnswerPair) -> dict[str, Any]:
    sides = {
        name: {"text": answer.text, "finish_reason": answer.finish_reason, "error": answer.error}
        for name, answer in (("a", pair.a), ("b", pair.b))
    }
    differ = pair.first_difference() if pair.is_whole else None
    return {"prompt": pair.prompt, **sides, "first_difference": differ}
