"""Results: tables for people, JSON for the record."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stand import ROOT


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under their columns, aligned."""
    cells = [list(columns), *([_cell(each) for each in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *rest]))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def write(path: Path | None, what: str, results: Any) -> None:
    """Keep the results of a benchmark with the host that they are of."""
    if path is not None:
        found = {"what": what, "host": host(), "results": results}
        path.write_text(json.dumps(found, indent=1) + "\n")


def host() -> dict[str, Any]:
    """The machine, by what decides of its speed."""
    info = Path("/proc/cpuinfo").read_text()
    lines = [line.split(":", 1) for line in info.splitlines() if ":" in line]
    facts = {name.strip(): value.strip() for name, value in lines}
    describe = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": facts.get("model name", platform.machine()),
        "mhz": facts.get("cpu MHz", ""),
        "python": platform.python_version(),
        "commit": commit,
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average": os.getloadavg(),
    }
