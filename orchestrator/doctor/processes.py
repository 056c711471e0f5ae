"""The processes that ew started: those that nobody looks after, and those that cannot run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contract.messages import State
from contract.paths import run_dir
from contract.process.process_table import Entry, command_line, read_environment, read_table
from contract.supervision.last_seen import is_supervised
from contract.supervision.status import RunStatus
from orchestrator.environments.preflight import Check
from orchestrator.errors import UserError
from orchestrator.protocol.status import read_status
from orchestrator.supervisor.reporting.run_file import Run, read_run
from orchestrator.system.marks import MARK_VARIABLE, ROOT_VARIABLE

#: A supervisor needs a moment to write down what it started.
_SETTLES_WITHIN_S: Final = 2.0


def failed() -> Iterator[Check]:
    """Yield what the supervisor that runs has given up, or starts again after a failure."""
    try:
        status = read_status()
    except UserError as error:
        yield Check("status", error.message, error.hint, is_fatal=True)
        return
    if is_supervised(status):
        yield from problems_of(status)


def problems_of(status: RunStatus) -> Iterator[Check]:
    """Yield why something does not run that should."""
    workers = [(worker.slot, worker) for model in status.models for worker in model.workers]
    for name, unit in [("valkey", status.redis), ("gateway", status.gateway), *workers]:
        if unit is None or unit.problem is None or unit.state in (State.READY, State.STOPPED):
            continue
        fix = unit.problem.hint or f"`./ew logs {name}` says more"
        yield Check(name, unit.problem.message, fix, is_fatal=unit.state is State.FAILED)


def started() -> Iterator[Check]:
    """Yield what this state directory's supervisors started. Other projects, and other users,
    have supervisors of their own."""
    root = f"{ROOT_VARIABLE}={run_dir()}"
    try:
        run = read_run()
    except UserError as error:
        # Whose the processes are, only that file tells.
        yield Check("started by ew", error.message, error.hint, is_fatal=True)
        return
    found = 0
    for pid, entry in sorted(read_table().items()):
        environment = read_environment(pid)
        if root not in environment or _age_s(entry) < _SETTLES_WITHIN_S:
            continue
        found += 1
        yield from _orphan(pid, environment, run)
    yield Check("started by ew", f"{found} processes")


def _orphan(pid: int, environment: frozenset[str], run: Run | None) -> Iterator[Check]:
    """Yield processes that no supervisor looks after."""
    units = run.units if run else ()
    marks = {f"{MARK_VARIABLE}={unit.identity.mark}" for unit in units if unit.identity}
    if not marks & environment:
        seen = f"an orphan: {command_line(pid)[:80]}"
        yield Check(f"pid {pid}", seen, f"`kill {pid}`; it belongs to no run of ew", is_fatal=True)
    elif run is not None and not run.supervisor.is_running():
        fix = "`./ew start` takes it over"
        yield Check(f"pid {pid}", "serves without a supervisor", fix, is_fatal=True)


def _age_s(entry: Entry) -> float:
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return uptime_s - entry.start_ticks / os.sysconf("SC_CLK_TCK")
