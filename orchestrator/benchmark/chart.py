"""Results as they are shown in a terminal: a table and bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.benchmark.measurement import BenchResult, Measurement, Spread

_BAR: Final = 40
_MOST_ROWS: Final = 60


def table(result: BenchResult) -> list[str]:
    """Return one line a run, below their heads."""
    names = ["server"] if len(result.servers) > 1 else []
    head = [*names, "streams", "tok/s", "req/s", *_times("TTFT"), *_times("gap"), "errors", "load"]
    rows = [_row(result, run, is_named=bool(names)) for run in result.runs]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]


def remarks(result: BenchResult) -> list[str]:
    """Return what a reader of the table has to know."""
    told = ["Times in ms (p50, p99); gap: between arrivals of tokens on one stream; load: % of a"]
    told.append("core that the busiest process of the load generator took.")
    if any(run.is_interrupted for run in result.runs):
        told.append("~ was interrupted.")
    if any(run.generator.may_limit for run in result.runs):
        told.append("! the load generator was busy or late: its limit may be what was measured.")
    for run in result.runs:
        for message, count in run.errors.items():
            told.append(f"{count} x with {_level(run)}: {message}")
    return told


def bars(result: BenchResult) -> list[str]:
    """Return bars of tokens per second, by run; of a recording, by second."""
    shown = _by_second(result) if result.settings.get("replay") else _by_run(result)
    most = max((value for _, value in shown), default=0.0)
    if not most:
        return []
    width = max(len(label) for label, _ in shown)
    lines = [f"{label:>{width}} {_bar(value / most)} {value:.0f}" for label, value in shown]
    return ["tokens per second", *lines]


def _by_run(result: BenchResult) -> list[tuple[str, float]]:
    is_named = len(result.servers) > 1
    return [
        (f"{result.servers[run.server].name if is_named else ''} {_level(run)}", run.tokens_per_s)
        for run in result.runs
    ]


def _by_second(result: BenchResult) -> list[tuple[str, float]]:
    """Of the last run; several seconds are one row if there are many."""
    by_second = result.runs[-1].tokens_by_second if result.runs else []
    step = len(by_second) // _MOST_ROWS + 1
    return [
        (f"{second} s", sum(part) / len(part))
        for second in range(0, len(by_second), step)
        if (part := by_second[second : second + step])
    ]


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _row(result: BenchResult, run: Measurement, *, is_named: bool) -> list[str]:
    name = [result.servers[run.server].name] if is_named else []
    marks = "~" * run.is_interrupted + "!" * run.generator.may_limit
    return [
        *name,
        _level(run),
        _number(run.tokens_per_s),
        _number(run.requests_per_s),
        *_pair(run.ttft_ms),
        *_pair(run.gap_ms),
        str(run.requests.failed),
        f"{run.generator.busiest_percent:.0f}{marks}",
    ]


def _level(run: Measurement) -> str:
    return "replay" if run.streams is None else str(run.streams)


def _times(name: str) -> Sequence[str]:
    return f"{name} p50", "p99"


def _pair(spread: Spread) -> Sequence[str]:
    return _number(spread.p50), _number(spread.p99)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
