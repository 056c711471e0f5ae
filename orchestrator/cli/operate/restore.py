"""`ew restore`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.backup.restoring import restore as restore_from
from orchestrator.client.reach import has_unfinished_run, is_running
from orchestrator.errors import UserError
from orchestrator.system.version import version
from orchestrator.terminal.speech import say, warn


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Made by `ew backup`.")],
) -> None:
    """Put what a backup has in its place.

    Nothing is overwritten: keys or data that are there already stop it. A configuration that is
    there stays, and the backup's is put beside it.
    """
    if is_running() or has_unfinished_run():
        raise UserError("ew runs", "`./ew stop` first")
    label, aside = restore_from(file)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(label.made_unix_s))
    by = "" if label.ew == version() else f" by ew {label.ew}"
    say(f"restored, as of {made}{by}; `./ew start` goes on with it")
    if aside is not None:
        say(f"your configuration is as it was; that of the backup is {aside}")
    if label.redis == "external":
        warn("the data of its Redis was not in the backup: restore that by its own means")
