"""`ew logs`."""

from __future__ import annotations

import difflib
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from contract.logs.file import LogFile, logs_of
from contract.logs.line import LogLine, merged, unix_s
from contract.paths import logs_dir, process_of_log
from orchestrator.client.reach import is_running
from orchestrator.config.aliases import id_of
from orchestrator.config.named_host import named_host
from orchestrator.errors import UserError
from orchestrator.terminal.durations import seconds_of
from orchestrator.terminal.speech import printable, say

_LOOK_EVERY_S: Final = 0.2
_LINES: Final = 50
#: As many as `GET /api/v1/admin/logs` tells.
_MOST_OF_OTHERS: Final = 5000


def logs(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Models, or gateway, valkey, supervisor; all if not given."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=0, help=f"How many of the last; {_LINES} if not given."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="All from then on: 10m ago, or 2026-01-31T12:00."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line.")] = False,
) -> None:
    """Show what the processes wrote, by time."""
    names = name or []
    since_unix_s = None if since is None else _moment(since)
    count = _LINES if lines is None and since is None else lines
    if url := named_host():
        _of_other_host(url, names, count, since_unix_s, is_followed=follow, as_json=as_json)
        return
    paths = _paths(names)
    if not paths:
        raise UserError(*_none())
    log_files = [LogFile(path) for path in paths]
    known = merged([file.last(count, since_unix_s) for file in log_files])
    write = _write_json if as_json else _write_text
    write(known if count is None else known[max(0, len(known) - count) :], len(log_files) > 1)
    while follow:
        time.sleep(_LOOK_EVERY_S)
        _add_new(log_files, names)
        write(merged([file.new_lines() for file in log_files]), len(log_files) > 1)


def _of_other_host(
    url: str,
    names: list[str],
    count: int | None,
    since_unix_s: float | None,
    *,
    is_followed: bool,
    as_json: bool,
) -> None:
    """Write what the gateway of another host tells; of long ago it tells the last lines alone."""
    # Only this needs httpx.
    from orchestrator.client.other_host import other_host

    host = other_host(url)
    units = host.log_units(names)
    wanted = _MOST_OF_OTHERS if count is None else min(count, _MOST_OF_OTHERS)
    write = _write_json if as_json else _write_text
    pieces = host.follow_lines(units, wanted) if is_followed else [host.last_lines(units, wanted)]
    for lines in pieces:
        shown = [each for each in lines if since_unix_s is None or _is_since(each, since_unix_s)]
        if since_unix_s is not None and len(shown) == _MOST_OF_OTHERS:
            say(f"warning: only the last {_MOST_OF_OTHERS} lines are told by another host")
        write(shown, len(units) != 1)
    if is_followed:
        raise UserError(f"{url} has ended the connection", "it may be restarting: ask again")


def _is_since(line: LogLine, since_unix_s: float) -> bool:
    at = unix_s(line)
    return at is None or at >= since_unix_s


def _paths(names: list[str]) -> list[Path]:
    """Return the logs of these. Raises `UserError` if one has none."""
    if not names:
        return logs_of(logs_dir(), None)
    return sorted({path for name in names for path in _logs_of(name)})


def _logs_of(name: str) -> list[Path]:
    found = logs_of(logs_dir(), name) or logs_of(logs_dir(), id_of(name))
    if not found:
        raise UserError(*_nothing(name))
    return found


def _none() -> tuple[str, str]:
    if is_running():
        # Processes go on writing into files that are in no directory any more.
        why = "the logs were deleted while ew runs"
        return why, "`./ew restart` begins those of models anew; a stop and a start, all"
    return "there are no logs yet", "`./ew start` starts what is configured"


def _nothing(name: str) -> tuple[str, str]:
    present = [process_of_log(path) for path in logs_of(logs_dir(), None)]
    if not present:
        return _none()
    near = difflib.get_close_matches(name, present, n=1)
    meant = f"did you mean `{near[0]}`? " if near else ""
    return f"no log of `{name}`", f"{meant}there are {', '.join(f'`{each}`' for each in present)}"


def _moment(text: str) -> float:
    """Return a time, in Unix seconds: an ISO 8601 one, or how long ago it was. Raises
    `UserError`."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        pass
    try:
        return time.time() - seconds_of(text)
    except UserError as error:
        raise UserError(error.message, f"{error.hint}, or as 2026-01-31T12:00") from None


def _add_new(log_files: list[LogFile], names: list[str]) -> None:
    """Logs that have appeared since belong to it, too."""
    known = {file.path for file in log_files}
    log_files.extend(LogFile(path) for path in _paths(names) if path not in known)


def _write_text(lines: list[LogLine], is_one_of_several: bool) -> None:
    for line in lines:
        prefix = f"{line.unit} | " if is_one_of_several else ""
        sys.stdout.write(f"{prefix}{printable(line.text)}\n")
    sys.stdout.flush()


def _write_json(lines: list[LogLine], _: bool) -> None:
    for line in lines:
        sys.stdout.write(f"{json.dumps(line.as_json())}\n")
    sys.stdout.flush()
