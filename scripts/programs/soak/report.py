"""The findings of a run: JSON for the record, Markdown for people."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from faults import Record
from hosts import ROOT
from samples import Sampler
from streams import Counts


def facts(counts: Counts, record: Record, sampler: Sampler, run: dict[str, Any]) -> dict[str, Any]:
    """Everything that was found out."""
    pauses = sorted(counts.pauses) or [0.0]
    return {
        "run": {**run, **_host(), "cpu_s": round(sampler.cpu_s, 1)},
        "streams": {
            "answered": counts.streams,
            "tokens": counts.tokens,
            "accounted": counts.accounted,
            "lost": counts.lost,
            "duplicated": counts.duplicated,
            "wrong": counts.wrong,
            "failed": dict(counts.failed),
            "connections": counts.connections,
            "resumed": counts.resumed,
            "refused": dict(counts.refused),
            "longest_pause_s": {
                "median": round(statistics.median(pauses), 2),
                "p99": round(pauses[int(0.99 * (len(pauses) - 1))], 2),
                "most": round(pauses[-1], 2),
            },
        },
        "faults": {
            kind: {"done": record.done[kind], "not_done": record.not_done[kind]}
            for kind in sorted(record.done | record.not_done)
        },
        "trends": {name: trend._asdict() for name, trend in sampler.trends().items()},
        "keys_at_the_end": dict(sampler.keys.most_common()),
        "fault_log": record.log,
        "series": sampler.series,
    }


def write(found: dict[str, Any], directory: Path) -> None:
    (directory / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    (directory / "soak.md").write_text(markdown(found))


def markdown(found: dict[str, Any]) -> str:
    run, streams = found["run"], found["streams"]
    verdict = ", ".join(f"{streams[name]} {name}" for name in ("lost", "duplicated", "wrong"))
    failed = sum(streams["failed"].values())
    pauses = streams["longest_pause_s"]
    parts = [
        f"**{verdict}, {failed} failed** of {streams['tokens']} tokens in {streams['answered']} "
        f"answers, in {run['seconds'] / 60:.0f} minutes with {run['streams']} streams at a time "
        f"and {sum(each['done'] for each in found['faults'].values())} faults.",
        f"{run['measured']}, commit {run['commit']}, seed {run['seed']}; {run['cores']} cores "
        f"({run['cpu']}), Python {run['python']}; {run['cpu_s']:.0f} CPU seconds of both hosts. "
        f"{streams['connections']} connections, of which {streams['resumed']} went on after the "
        f"last token of another. The longest pause in the middle of an answer: "
        f"{pauses['median']} s (median), {pauses['p99']} s (p99), {pauses['most']} s (most).",
        f"ew's own account (`ew usage`) has {streams['accounted']} tokens.",
        f"{len(run['crashes'])} processes ended by themselves.",
        _failures(streams),
        _table(
            ("fault", "happened", "could not"),
            [(kind, each["done"], each["not_done"]) for kind, each in found["faults"].items()],
        ),
        _table(
            ("after the warm-up", "first", "last", "most", "per hour", "give or take"),
            [(name, *_figures(trend)) for name, trend in found["trends"].items()],
        ),
        _table(("keys in Redis at the end", "number"), found["keys_at_the_end"].items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _failures(streams: dict[str, Any]) -> str:
    named = {**streams["failed"], **{f"refused: {k}": v for k, v in streams["refused"].items()}}
    return _table(("errors that clients saw", "times"), named.items()) if named else ""


def _figures(trend: dict[str, float]) -> list[str]:
    names = ("first", "last", "most", "per_hour", "give_or_take")
    return [f"{trend[name]:.1f}" for name in names]


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in cells)


def _host() -> dict[str, Any]:
    """The machine, and what was run on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model or platform.machine(),
        "python": platform.python_version(),
        "commit": commit,
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
