"""A comparison as it is shown in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.benchmark.comparison.report import ComparisonReport, ModelSide, Parity
from orchestrator.benchmark.measurement import Spread


def comparison_lines(report: ComparisonReport, without_logprobs: Sequence[str]) -> list[str]:
    """Return the parity, the speed of both beside each other, and their errors."""
    lines = [*_parity(report.parity, without_logprobs), "", *_speed(report)]
    if report.is_interrupted:
        lines.append("interrupted: only what was answered by then is compared")
    for server, side in zip(report.servers, report.sides, strict=True):
        lines += [f"{count} x {server.model}: {message}" for message, count in side.errors.items()]
    return lines


def _parity(parity: Parity, without_logprobs: Sequence[str]) -> Iterator[str]:
    if not parity.compared:
        yield "no prompt was answered by both"
        return
    yield f"same text           {_share(parity.same_text, parity.compared)}"
    yield f"same finish reason  {_share(parity.same_finish_reason, parity.compared)}"
    if parity.first_difference is not None:
        yield (
            f"first difference    after {parity.first_difference:g} tokens (median), "
            f"{parity.earliest_difference} (earliest)"
        )
    if parity.logprobs is not None:
        gap = parity.logprobs
        yield (
            f"logprobs differ by  {gap.mean:g} (mean), {gap.largest:g} (largest), "
            f"over {gap.tokens} tokens before a difference"
        )
    for model in without_logprobs:
        yield f"logprobs            {model} tells none"


def _speed(report: ComparisonReport) -> list[str]:
    rows = [["", *(server.model for server in report.servers), "B / A"]]
    for label, values in _rows(report.sides):
        rows.append([label, *map(_number, values), _ratio(values)])
    reasons = [", ".join(f"{n} {r}" for r, n in s.finish_reasons.items()) for s in report.sides]
    rows.append(["finish reasons", *(each or "-" for each in reasons), ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_aligned(row, widths) for row in rows]


def _rows(sides: Sequence[ModelSide]) -> Iterator[tuple[str, list[float | None]]]:
    yield "answers", [side.good for side in sides]
    yield "errors", [side.failed for side in sides]
    yield "tokens, mean", [side.mean_tokens for side in sides]
    yield from _times("TTFT", [side.ttft_ms for side in sides])
    yield from _times("gap", [side.gap_ms for side in sides])
    yield "tok/s of an answer", [side.tokens_per_s for side in sides]


def _times(name: str, spreads: Sequence[Spread]) -> Iterator[tuple[str, list[float | None]]]:
    yield f"{name} p50, ms", [spread.p50 for spread in spreads]
    yield f"{name} p99, ms", [spread.p99 for spread in spreads]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    head, *rest = row
    cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return "  ".join([head.ljust(widths[0]), *cells]).rstrip()


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / total:.0f} %)"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _ratio(values: Sequence[float | None]) -> str:
    a, b = values
    return f"{b / a:.2f}" if a and b else ""
