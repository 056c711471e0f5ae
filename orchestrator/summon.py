"""Bringing a supervisor to life."""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from contract.paths import ROOT, logs_dir, make_private, project_dir, state_dir
from orchestrator.control import Control
from orchestrator.diagnosis import read_tail
from orchestrator.errors import UserError
from orchestrator.process import Command, detach, open_log
from orchestrator.reach import reach_supervisor

_INHERITED: Final = ("EW_HOME", "EW_STATE_DIR", "EW_CONFIG", "EW_LOG_LEVEL")
_APPEARS_WITHIN_S: Final = 20.0


def summon_supervisor() -> Control:
    """A connection to the supervisor; one is started if none runs. Of several that are started
    at once, one stays.

    Raises `UserError` if it does not come up.
    """
    control = reach_supervisor()
    if control is not None:
        return control
    log_start, pid = spawn_supervisor()
    deadline = time.monotonic() + _APPEARS_WITHIN_S
    while time.monotonic() < deadline:
        control = reach_supervisor()
        if control is not None:
            return control
        if _has_failed(pid):
            break
        time.sleep(0.02)
    raise _absence(log_start)


def spawn_supervisor() -> tuple[int, int]:
    """Start a supervisor in the background and wait for nothing. Answers where its part of the
    log begins, and its pid."""
    make_private(state_dir())
    path = logs_dir() / "supervisor.log"
    log_start = open_log(path)
    # Its children inherit this: settings are handed over with each start, not by accident.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EW_") or name in _INHERITED
    }
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    command = Command([sys.executable, "-m", "orchestrator.daemon"], environment, project_dir())
    return log_start, detach(command, path)


def _has_failed(pid: int) -> bool:
    """Whether our supervisor has ended. One that found another in its place has not failed."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == pid and status != 0


def _absence(log_start: int) -> UserError:
    path = logs_dir() / "supervisor.log"
    lines = read_tail(path, log_start, lines=5)
    return UserError("\n".join(["the supervisor does not come up", *lines]), f"see {path}")
