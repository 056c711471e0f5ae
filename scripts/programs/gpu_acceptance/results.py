"""The results of the pieces, as JSON for machines and Markdown for people."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
GIB = 1024**3


class Failure(Exception):
    """Something is not as promised."""


class Piece:
    """The findings of one piece: facts by name, and checks that held or did not."""

    def __init__(self, name: str, *, is_mock: bool) -> None:
        self.name = name
        self.began = time.time()
        self.facts: dict[str, Any] = {"mock": is_mock}
        self.checks: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    @property
    def is_good(self) -> bool:
        return bool(self.checks) and all(check["held"] for check in self.checks)

    def say(self, text: str) -> None:
        print(f"   {time.time() - self.began:6.1f} s  {text}", flush=True)

    def note(self, name: str, value: Any) -> None:
        self.facts[name] = value
        self.say(f"{name}: {value}")

    def check(self, what: str, held: bool, found: Any = None) -> None:
        """Write down whether a promise held; the piece goes on either way."""
        self.checks.append({"what": what, "held": bool(held), "found": found})
        self.say(f"{'ok  ' if held else 'FAIL'} {what}" + ("" if found is None else f" ({found})"))

    def require(self, what: str, held: bool, found: Any = None) -> None:
        """The same, for what the rest of the piece depends on."""
        self.check(what, held, found)
        if not held:
            raise Failure(what)

    def add_row(self, row: Row, out: Path) -> None:
        """Keep a row of results in `out` at once, and print the table of all so far."""
        self.rows.append(row)
        self.write(out)
        print("\n".join(_table(self.rows)), flush=True)

    def fail(self, reason: str) -> None:
        self.checks.append({"what": "the piece came to its end", "held": False, "found": reason})
        self.say(f"FAIL {reason}")

    def keep_trace(self) -> None:
        self.facts["trace"] = traceback.format_exc()

    def write(self, out: Path) -> None:
        content = {
            "piece": self.name,
            "good": self.is_good,
            "began_unix_s": self.began,
            "took_s": round(time.time() - self.began, 1),
            "facts": self.facts,
            "checks": self.checks,
            "rows": self.rows,
        }
        # Pieces that are run in several goes, one combination after the other, keep them all.
        path = out / f"{self.name}-{int(self.began)}.json"
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")


def write_report(out: Path, sources: list[Path], estimate: Callable[[Row], Row]) -> None:
    """Put all pieces together that these directories hold; of the same row, the newest counts.
    What was measured stays; the estimates beside it are those of today's code."""
    found = {path.name: path for source in sources for path in sorted(source.glob("*-*.json"))}
    pieces = [json.loads(path.read_text()) for path in found.values()]
    for piece in pieces:
        piece["rows"] = [row | estimate(row) for row in piece["rows"]]
    pieces.sort(key=lambda piece: piece["began_unix_s"])
    (out / "results.json").write_text(json.dumps(pieces, indent=1) + "\n")
    (out / "results.md").write_text("\n".join(_markdown(pieces)) + "\n")


def _markdown(pieces: list[dict[str, Any]]) -> list[str]:
    lines = ["# GPU acceptance", ""]
    rows = {row["combination"]: row for piece in pieces for row in piece["rows"]}
    if rows:
        lines += _table(list(rows.values()))
    for piece in pieces:
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(piece["began_unix_s"]))
        mock = ", mock engine and scripted driver" if piece["facts"]["mock"] else ""
        lines += [f"## {piece['piece']} ({when} UTC, {piece['took_s']:.0f} s{mock})", ""]
        for check in piece["checks"]:
            found = "" if check["found"] is None else f": {check['found']}"
            lines.append(f"- {'ok' if check['held'] else '**failed**'}: {check['what']}{found}")
        for name, value in piece["facts"].items():
            lines += _fact(name, str(value))
        lines.append("")
    return lines


def _fact(name: str, value: str) -> list[str]:
    if "\n" not in value:
        return [f"- {name}: {value}"]
    return [f"- {name}:", "", "```text", value, "```", ""]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Estimate against NVML, in GiB: when it had just become ready, and the most under load."""
    head = (
        "| combination | at rest: estimate | NVML | under load: estimate | NVML | error | ready |"
    )
    lines = [head, "|--|" + "--:|" * 6]
    for row in rows:
        cells = [
            f"{row[name] / GIB:.2f}"
            for name in ("estimated_rest", "measured_rest", "estimated_peak", "measured_peak")
        ]
        error = row["estimated_peak"] - row["measured_peak"]
        cells.append(f"{error / GIB:+.2f} ({error / max(row['measured_peak'], 1):+.1%})")
        cells.append(f"{row['ready_after_s']:.0f} s" + (", not loaded" * bool(row.get("problem"))))
        lines.append(f"| {row['combination']} | " + " | ".join(cells) + " |")
    return [*lines, ""]
