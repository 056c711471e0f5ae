"""`ew status`: reads the file that the supervisor writes, and nothing else; of another host, its
gateway tells the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from contract.paths import state_dir
from contract.supervision.last_seen import is_supervised, without_the_dead
from contract.supervision.status import RunStatus, SupervisorStatus
from orchestrator.cli.status_screen.text import WIDTH, StatusText
from orchestrator.config.named_host import named_host
from orchestrator.errors import UserError
from orchestrator.protocol.status import read_status
from orchestrator.terminal.speech import terminal_size, warn


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show them again every second.")] = False,
) -> None:
    """Show what runs."""
    look = _place()
    if watch:
        _watch(look)
        return
    current = look()
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(current), indent=2).decode()
    else:
        if current.supervisor is None and not named_host():
            _see_that_nothing_runs()
        text = "\n".join(StatusText(sys.stdout, _width()).lines(current, time.time()))
    sys.stdout.write(f"{text}\n")
    if not as_json and not named_host() and current.supervisor is not None:
        _compare(current.supervisor)


def _see_that_nothing_runs() -> None:
    """Raises `UserError` if a supervisor is there that has never written its status."""
    from orchestrator.client.reach import is_running

    if is_running():
        why = (
            f"it has just started, or cannot write: `df -h {state_dir()}` says if the disk is full"
        )
        raise UserError("ew runs, but its status was not written yet", why)


def _compare(supervisor: SupervisorStatus) -> None:
    """Say so if ew was changed while it ran."""
    from orchestrator.system.version import version

    if supervisor.alive and supervisor.version != version():
        former = f"ew {supervisor.version}" if supervisor.version else "an earlier ew"
        warn(f"what runs was started by {former}; this is ew {version()} ({_way_over()})")


def _way_over() -> str:
    from orchestrator.supervisor.reporting.run_file import read_run

    try:
        read_run()
    except UserError as error:
        return f"which cannot take that over: {error.hint}"
    return "`./ew restart` goes over to it, and loses nothing"


def _place() -> Callable[[], RunStatus]:
    """Return what tells the status of the host that is meant. Raises `UserError`."""
    if not (url := named_host()):
        return _current
    # Only this needs httpx.
    from orchestrator.client.other_host import other_host

    return other_host(url).status


def _current() -> RunStatus:
    """Return what the supervisor wrote last, as far as it still is so."""
    current = read_status()
    if current.supervisor is None or is_supervised(current):
        return current
    return without_the_dead(current)


def _width() -> int:
    """Of the terminal; what is no terminal gets what any has."""
    return terminal_size(sys.stdout).columns if sys.stdout.isatty() else WIDTH


def _watch(look: Callable[[], RunStatus]) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("`--watch` needs a terminal", "`./ew status --json` is for programs")
    # Only this needs rich.
    from orchestrator.cli.status_screen.watch import watch

    watch(look)
