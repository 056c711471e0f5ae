"""API keys as `ew keys list` prints them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from contract.key_sharing.shared_keys import SharedKeys
from contract.keys import KeyRecord
from orchestrator.config.key_limits import limit_words
from orchestrator.terminal.speech import printable


def public(record: KeyRecord, uses: Mapping[str, float] | None, host: str | None) -> dict[str, Any]:
    """Return a key for programs, without its hash. `host` is another one whose key it is."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    del fields["sha256"]
    return {**fields, "last_used_unix_s": (uses or {}).get(record.id), "host": host}


def table(records: Sequence[KeyRecord], uses: Mapping[str, float] | None) -> list[str]:
    """Return the keys as lines. `uses` is None if it is not known when they were used."""
    now = time.time()
    head = ["ID", "NAME", "OWNER", "STATE", "MADE", "LAST USED", "EXPIRES", "MODELS"]
    rows = [_cells(record, uses, now) for record in records]
    if not any(record.owner for record in records):
        for cells in (head, *rows):
            del cells[2]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_line(head, widths)]
    for record, cells in zip(records, rows, strict=True):
        lines.append(_line(cells, widths))
        if record.note:
            lines.append(f"  {printable(record.note)}")
    return lines


def origin(shared: SharedKeys, *, here: int) -> str:
    """Return whose keys a host has that follows another one; `here` are its own."""
    when = _date(shared.published_unix_s, "")
    own = f"; {here} more open on this host alone" if here else ""
    return f"{len(shared.records)} are keys of `{shared.host}`, as of {when}{own}"


def _cells(record: KeyRecord, uses: Mapping[str, float] | None, now: float) -> list[str]:
    return [
        record.id,
        printable(record.name),
        printable(record.owner),
        record.state(now),
        _date(record.created_unix_s or None, "-")[:10],
        "?" if uses is None else _date(uses.get(record.id), "-"),
        _date(record.expires_unix_s, "never"),
        " ".join(_opens(record)),
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return "  ".join(f"{cell:{width}}" for cell, width in pairs).rstrip()


def _opens(record: KeyRecord) -> Iterator[str]:
    yield from record.models
    if record.metrics:
        yield "(metrics)"
    if record.admin:
        yield "(admin)"
    if record.priority != "normal":
        yield f"({record.priority})"
    if record.weight != 1:
        yield f"(weight {record.weight:g})"
    if record.anonymous:
        yield "(without a key, from anywhere)" if record.anonymous == "all" else "(without a key)"
    if words := limit_words(record):
        yield f"({', '.join(words)})"


def _date(unix_s: float | None, if_none: str) -> str:
    if unix_s is None:
        return if_none
    try:
        return f"{datetime.fromtimestamp(unix_s):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        # Written by hand, or by an earlier ew.
        return "not a date"
