"""Bringing a supervisor to life."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from contract.paths import ROOT, logs_dir, make_private, project_dir, state_dir
from contract.process.host_name import VARIABLE
from orchestrator.client.reach import reach_supervisor
from orchestrator.errors import UserError
from orchestrator.protocol.control import Answer, Control, Request
from orchestrator.protocol.diagnosis import read_tail
from orchestrator.protocol.start_turn import StartTurn
from orchestrator.system.process import Command, detach, open_log
from orchestrator.system.service_manager import VARIABLES

_INHERITED: Final = ("EW_HOME", "EW_STATE_DIR", "EW_CONFIG", "EW_LOG_LEVEL", VARIABLE)
_APPEARS_WITHIN_S: Final = 20.0
_LOOK_AGAIN_S: Final = 0.2
#: So many supervisors in a row that leave before they hear are no coincidence.
MOST_LEAVERS: Final = 5


def connect_or_spawn() -> Control:
    """Return a connection to the supervisor; one is started if none runs. Of several that are
    started at once, one stays.

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
        code = _exit_code(pid)
        if code:
            break
        if code == 0:
            # It found another in its place, which is coming up, or just leaving.
            time.sleep(_LOOK_AGAIN_S)
            _, pid = spawn_supervisor()
        time.sleep(0.02)
    raise _absence(log_start)


def ask_supervisor(request: Request, turn: StartTurn) -> Iterator[Answer | None]:
    """Connect to the supervisor, started if there is none, and ask it. Yield as `Control.ask` does.
    If it left before it heard the request, the next one is asked. Raises `UserError`, also if
    something was stopped since the `turn` began."""
    with ExitStack() as unheard:
        unheard.enter_context(turn.handing_over())
        for _ in range(MOST_LEAVERS):
            with connect_or_spawn() as control:
                was_heard = False
                for answer in control.ask(request):
                    if answer is not None:
                        was_heard = True
                        unheard.close()
                    yield answer
            if was_heard:
                return


def spawn_supervisor() -> tuple[int, int]:
    """Start a supervisor in the background and wait for nothing. Returns where its part of the
    log begins, and its pid."""
    path = logs_dir() / "supervisor.log"
    log_start = open_log(path)
    return log_start, detach(supervisor_command(), path)


def supervisor_command() -> Command:
    """Return how a supervisor of this project is started."""
    make_private(state_dir())
    # Its children inherit this: settings are handed over with each start, not by accident.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or (not name.startswith("EW_") and name not in VARIABLES)
    }
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    module = "orchestrator.supervisor.daemon"
    return Command([sys.executable, "-m", module], environment, project_dir())


def _exit_code(pid: int) -> int | None:
    """Return how a supervisor that we started has ended; None while it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended == pid else None


def _absence(log_start: int) -> UserError:
    path = logs_dir() / "supervisor.log"
    lines = read_tail(path, log_start, lines=5)
    return UserError("\n".join(["the supervisor does not come up", *lines]), f"see {path}")
