"""`ew status`: reads the file that the supervisor writes, and nothing else."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import msgspec
import typer

from orchestrator.errors import UserError
from orchestrator.last_seen import is_supervised, without_the_dead
from orchestrator.status import Status, read_status
from orchestrator.status_text import StatusText


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show them again every second.")] = False,
) -> None:
    """Show what runs."""
    if watch:
        _watch()
        return
    current = _current()
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(current), indent=2).decode()
    else:
        text = "\n".join(StatusText(sys.stdout).lines(current, time.time()))
    sys.stdout.write(f"{text}\n")


def _current() -> Status:
    """What the supervisor wrote last, as far as it still is so."""
    current = read_status()
    if current.supervisor is None or is_supervised(current):
        return current
    return without_the_dead(current)


def _watch() -> None:
    if not sys.stdout.isatty():
        raise UserError("`--watch` needs a terminal", "`./ew status --json` is for programs")
    # Only this needs rich.
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=True) as live:
        while True:
            lines = StatusText(sys.stdout).lines(_current(), time.time())
            live.update(Text.from_ansi("\n".join(lines)), refresh=True)
            time.sleep(1)
