"""Going over to another version of ew: its supervisor takes over what that of the former one runs,
as it does after a supervisor's death. Nothing else ends by that."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Final

from contract.process.process_table import read_environment
from orchestrator.client.connect import connect_or_spawn
from orchestrator.client.reach import reach_supervisor
from orchestrator.errors import UserError
from orchestrator.supervisor.reporting.run_file import read_run
from orchestrator.system.service_manager import VARIABLES
from orchestrator.system.version import version

#: A service manager may wait before it starts a service again, and .venv may have to be changed.
_COMES_BACK_WITHIN_S: Final = 120.0
_ENDS_WITHIN_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.1


def go_over() -> str:
    """Let a supervisor of this version take over from one of another. Return which that was, as
    `ew 0.1.0`; empty if what runs is of this version, or nothing does.

    Raises `UserError` if what runs cannot be taken over, before anything is changed.
    """
    run = read_run()
    if run is None or run.version == version():
        return ""
    if run.is_stopping:
        raise UserError("ew is stopping", "`./ew start` when it has")
    control = reach_supervisor()
    is_service = False
    if control is not None:
        with control:
            is_service = _end(control.peer())
    if not is_service:
        connect_or_spawn().close()
    _wait_for_successor(is_service=is_service)
    return f"ew {run.version}" if run.version else "an earlier ew"


def _end(pid: int) -> bool:
    """Kill a supervisor. Return whether its service manager starts the next one."""
    process = os.pidfd_open(pid)
    try:
        is_service = _is_started_again(pid)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        if not select.select([process], [], [], _ENDS_WITHIN_S)[0]:
            raise UserError(f"the supervisor (pid {pid}) does not end", "see `./ew doctor`")
        return is_service
    finally:
        os.close(process)


def _is_started_again(pid: int) -> bool:
    """Return whether a service manager started this process, and does so again."""
    names = {each.partition("=")[0] for each in read_environment(pid)}
    return VARIABLES[0] in names


def _wait_for_successor(*, is_service: bool) -> None:
    """Wait until a supervisor of this version has taken over. Raises `UserError`."""
    deadline = time.monotonic() + _COMES_BACK_WITHIN_S
    while (run := read_run()) is None or run.version != version():
        if time.monotonic() > deadline:
            hint = "`systemctl status` of its service" if is_service else "logs/supervisor.log"
            raise UserError(
                f"no supervisor of ew {version()} has taken over; what runs goes on",
                f"{hint} says why; then `./ew start`",
            )
        time.sleep(_LOOK_EVERY_S)
