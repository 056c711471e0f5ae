"""`ew backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.backup.archive import back_up
from orchestrator.config.selection import read_config
from orchestrator.terminal.speech import say, warn


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Such as ew.tar.gz; a new one.")],
) -> None:
    """Write what cannot be made again into one file.

    That is the configuration, API keys, the data of ew's own Valkey (what waits, usage, jobs),
    files and batches. ew may run meanwhile. The file has secrets: keep it private.
    """
    label = back_up(file, external_redis=read_config().redis.url is not None)
    say(f"{file} has it, {file.stat().st_size / 2**20:.1f} MiB")
    if label.redis == "external":
        warn("the data of your own Redis is not in it: back that up by its own means")
