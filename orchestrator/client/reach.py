"""Reaching the supervisor, if one runs. Nothing is started and nothing made."""

from __future__ import annotations

from contract.paths import run_dir
from orchestrator.protocol.control import Control


def reach_supervisor() -> Control | None:
    """Return a connection to the supervisor that runs, if one does."""
    control = Control()
    return control if control.connect() else None


def is_running() -> bool:
    control = reach_supervisor()
    if control is None:
        return False
    with control:
        return True


def has_unfinished_run() -> bool:
    """Return whether a supervisor has left processes to take over."""
    return (run_dir() / "processes.json").exists()
