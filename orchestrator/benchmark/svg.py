"""Results as a picture: throughput and time to first token, by streams; of a recording, by time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from orchestrator.benchmark.measurement import BenchResult

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 460, 320, 64, 56, 16, 44
_COLORS: Final = ("#2563eb", "#ea580c", "#16a34a", "#9333ea")
_TICKS: Final = 4
Point = tuple[float, float]


class _Line(NamedTuple):
    label: str
    color: str
    is_dashed: bool
    points: Sequence[Point]


def picture(result: BenchResult) -> str:
    """Return an SVG document."""
    panels = _replay_panels(result) if result.settings.get("replay") else _sweep_panels(result)
    models = dict.fromkeys(f"{each.model} at {each.url}" for each in result.servers)
    title = f"{', '.join(models)}, {result.began}"
    width, height = _WIDTH * len(panels), _HEIGHT
    body = "".join(
        f'<g transform="translate({_WIDTH * number} 0)">{panel}</g>'
        for number, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" role="img">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="14" fill="#555">{escape(title)}</text>{body}</svg>\n'
    )


def _sweep_panels(result: BenchResult) -> list[str]:
    rates, firsts = [], []
    for number, server in enumerate(result.servers):
        runs = [run for run in result.runs_of(number) if run.streams is not None]
        color = _COLORS[number % len(_COLORS)]
        rates.append(
            _Line(server.name, color, False, [(run.streams or 0, run.tokens_per_s) for run in runs])
        )
        for name, is_dashed in (("p50", False), ("p99", True)):
            found = [(run.streams or 0, getattr(run.ttft_ms, name)) for run in runs]
            points = [(x, y) for x, y in found if y is not None]
            firsts.append(_Line(f"{server.name} {name}", color, is_dashed, points))
    return [
        _panel("tokens per second", "streams", rates, is_log=True),
        _panel("time to first token, ms", "streams", firsts, is_log=True),
    ]


def _replay_panels(result: BenchResult) -> list[str]:
    lines = [
        _Line(
            server.name,
            _COLORS[number % len(_COLORS)],
            False,
            [point for run in result.runs_of(number) for point in enumerate(run.tokens_by_second)],
        )
        for number, server in enumerate(result.servers)
    ]
    return [_panel("tokens per second", "seconds", lines, is_log=False)]


def _panel(title: str, below: str, lines: Sequence[_Line], *, is_log: bool) -> str:
    points = [point for line in lines for point in line.points]
    xs = sorted({x for x, _ in points}) or [1.0]
    most = _round_up(max((y for _, y in points), default=1.0))

    def across(x: float) -> float:
        low, high, at = xs[0], xs[-1], x
        if is_log:
            low, high, at = (math.log(max(each, 1)) for each in (low, high, at))
        share = (at - low) / (high - low) if high > low else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / most * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{_LEFT}" y="34" font-weight="bold">{title}</text>']
    for tick in range(_TICKS + 1):
        value = most * tick / _TICKS
        parts.append(
            f'<path d="M{_LEFT} {up(value):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for x in xs if is_log else (xs[0], xs[-1]):
        parts.append(
            f'<text x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{x:g}</text>"
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 10}" '
        f'text-anchor="middle">{below}</text>'
    )
    for number, line in enumerate(lines):
        placed = [(across(x), up(y)) for x, y in line.points]
        parts.append(_drawn(line, placed, number))
    return "".join(parts)


def _drawn(line: _Line, placed: Sequence[Point], number: int) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dashes = ' stroke-dasharray="4 3"' if line.is_dashed else ""
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{line.color}"/>' for x, y in placed
    )
    label = f'<text x="{_LEFT + 8}" y="{_TOP + 12 + 14 * number}" fill="{line.color}">'
    return (
        f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="1.5"{dashes}/>'
        f"{dots}{label}{escape(line.label)}{' (dashed)' if line.is_dashed else ''}</text>"
    )


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 4, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value)
