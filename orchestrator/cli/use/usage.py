"""`ew usage`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from contract.bus.records.usage_accounts import BY, By, UsageCounts, UsageRow, summed
from contract.config import Config
from orchestrator.cli.use.shown import print_json
from orchestrator.client.records.key_sharing import names_of_shared_keys
from orchestrator.client.records.usage import day_of, read_usage
from orchestrator.config.key_file import KeyFile
from orchestrator.config.selection import read_config
from orchestrator.errors import UserError
from orchestrator.terminal.speech import printable, say

_COLUMNS: Final = ("REQUESTS", "ERRORS", "CANCELLED", "IN", "CACHED", "OUT", "REASONING", "ENGINE")


def usage(
    by: Annotated[
        list[str] | None,
        typer.Option(help="A line for each key, model or day; may be given again.", metavar="WHAT"),
    ] = None,
    since: Annotated[
        str, typer.Option(help="The first day of UTC: 2026-11-01, or 7d.", metavar="DAY")
    ] = "29d",
    until: Annotated[str, typer.Option(help="The last day of UTC.", metavar="DAY")] = "0d",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print it as CSV, with a head.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what API keys have used: requests, tokens, and time of the engines."""
    if as_csv and as_json:
        raise UserError("both `--csv` and `--json`", "give one")
    chosen, first, last = _chosen(by or ["key"]), day_of(since), day_of(until)
    if first > last:
        raise UserError(f"{first} is after {last}", "`--since` comes before `--until`")
    config = read_config()
    rows, names = read_usage(config, first, last, chosen), _names_of_keys(config)
    if as_json:
        days = {"since": first.isoformat(), "until": last.isoformat()}
        print_json({**days, "usage": [_record(row, chosen, names) for row in rows]})
    elif as_csv:
        head = _record(UsageRow(None, None, None, UsageCounts()), chosen, {})
        out = csv.DictWriter(sys.stdout, head, lineterminator="\n")
        out.writeheader()
        out.writerows(_record(row, chosen, names) for row in rows)
    elif rows:
        sys.stdout.write("\n".join(_table(rows, chosen, names)) + "\n")
    else:
        say(f"nothing was used from {first} to {last}")


def _chosen(by: Sequence[str]) -> list[By]:
    for each in by:
        if each not in BY:
            raise UserError(f"no usage by `{printable(each)}`", f"one of {', '.join(BY)}")
    return [each for each in BY if each in by]


def _names_of_keys(config: Config) -> Mapping[str, str]:
    own = {each.id: each.name for each in KeyFile().all().values()}
    return names_of_shared_keys(config) | own


def _record(row: UsageRow, by: Sequence[By], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a row for programs."""
    *counts, engine_ms = row.counts
    named = {"name": names.get(row.key or "", "")} if "key" in by else {}
    return {
        **{each: getattr(row, each) for each in by},
        **named,
        **dict(zip(row.counts._fields, counts, strict=False)),
        "engine_seconds": engine_ms / 1000,
    }


def _table(rows: Sequence[UsageRow], by: Sequence[By], names: Mapping[str, str]) -> list[str]:
    """Return the rows and their sum as lines."""
    cells = [[*(each.upper() for each in by), *_COLUMNS]]
    cells += [[*_names(row, by, names), *_words(row.counts)] for row in rows]
    (total,) = summed(rows, ())
    cells.append(["all", *("" for _ in by[1:]), *_words(total.counts)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_aligned(line, widths, len(by))).rstrip() for line in cells]


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    pairs = enumerate(zip(line, widths, strict=True))
    return [f"{cell:{width}}" if i < left else f"{cell:>{width}}" for i, (cell, width) in pairs]


def _names(row: UsageRow, by: Sequence[By], names: Mapping[str, str]) -> list[str]:
    key = f"{row.key} {names.get(row.key, '')}".rstrip() if row.key else "-"
    words = {"key": key, "model": row.model, "day": row.day}
    return [printable(words[each] or "-") for each in by]


def _words(counts: UsageCounts) -> list[str]:
    *numbers, engine_ms = counts
    return [*map(str, numbers), f"{engine_ms / 1000:.1f} s"]
