"""`ew logs`."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Final

import typer

from contract.paths import logs_dir, process_of_log
from orchestrator.aliases import id_of
from orchestrator.errors import UserError
from orchestrator.log_file import LogFile, logs_of

_LOOK_EVERY_S: Final = 0.2


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A model, or gateway, valkey, supervisor; all if not given."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last.")] = 50,
) -> None:
    """Show what the processes wrote."""
    paths = logs_of(logs_dir(), name)
    if name is not None and not paths:
        name = id_of(name)
        paths = logs_of(logs_dir(), name)
    if not paths:
        raise UserError(*_nothing(name))
    files = [LogFile(path) for path in paths]
    for file in files:
        _write(file, file.last(lines), len(files) > 1)
    while follow:
        time.sleep(_LOOK_EVERY_S)
        for file in _with_new(files, name):
            _write(file, file.new_lines(), len(files) > 1)


def _with_new(files: list[LogFile], name: str | None) -> list[LogFile]:
    """The files, and those that have appeared since."""
    known = {file.path for file in files}
    files.extend(LogFile(path) for path in logs_of(logs_dir(), name) if path not in known)
    return files


def _write(file: LogFile, lines: list[str], is_one_of_several: bool) -> None:
    prefix = f"{process_of_log(file.path)} | " if is_one_of_several else ""
    for line in lines:
        sys.stdout.write(f"{prefix}{line}\n")
    sys.stdout.flush()


def _nothing(name: str | None) -> tuple[str, str]:
    present = ", ".join(f"`{process_of_log(path)}`" for path in logs_of(logs_dir(), None))
    if not present:
        return "there are no logs yet", "`./ew start` starts what is configured"
    return f"no log of `{name}`", f"there are {present}"
