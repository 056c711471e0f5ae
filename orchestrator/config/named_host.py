"""The host that a command is about, if it is not this one: `--host`, or EW_HOST."""

from __future__ import annotations

import os
from typing import Final

from orchestrator.errors import UserError

VARIABLE: Final = "EW_HOST"
CA_VARIABLE: Final = "EW_CA_FILE"
#: The commands that may be about another host.
COMMANDS: Final = ("status", "models", "logs", "jobs", "keys", "load", "unload", "pin")


def named_host() -> str:
    """Return the URL of another host's gateway; empty if the command is about this host."""
    return os.environ.get(VARIABLE, "").rstrip("/")


def require_possible(command: str) -> None:
    """Raises `UserError` for a command that can only be about this host, if another is named."""
    if command not in COMMANDS:
        require_this_host(command)


def require_this_host(command: str) -> None:
    """Raises `UserError` if another host is named."""
    if named_host():
        message = f"`./ew {command}` is about this host, and not {named_host()}"
        raise UserError(message, f"`--host` and {VARIABLE} are for: {', '.join(COMMANDS)}")
