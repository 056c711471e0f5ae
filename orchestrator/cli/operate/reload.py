"""`ew reload`."""

from __future__ import annotations

import sys
from typing import Final

import typer

from contract.paths import as_called
from contract.supervision.control import Reload
from orchestrator.client.reach import reach_supervisor
from orchestrator.client.stages import Stages, explain_failures, follow_to_the_end
from orchestrator.config.changes import Change
from orchestrator.config.effects import Effect
from orchestrator.errors import UserError
from orchestrator.supervisor.restarting import running_changes
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import printable, say

_APPLIED: Final = {Effect.AT_ONCE: "applied at once", Effect.RELOAD: "applied now"}


def reload() -> None:
    """Take the configuration file over, and lose nothing.

    Shows each change, and whether it counts now, at a model's next load, or waits for a restart.
    The gateway's processes are replaced if need be; models that are loaded stay as they are. A
    file that cannot be used changes nothing.
    """
    control = reach_supervisor()
    if control is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    found = running_changes()
    with control:
        outcomes = follow_to_the_end(control.ask(Reload()), Stages(Progress()))
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; try again")
    if not found:
        say("nothing differs from what runs")
    for change in found:
        line = f"{change.key}: {change.running} -> {change.file}"
        sys.stdout.write(f"{printable(line)}\n  {_words(change)}\n")
    if explain_failures(outcomes):
        raise typer.Exit(1)


def _words(change: Change) -> str:
    if change.effect in _APPLIED:
        return _APPLIED[change.effect]
    waits = as_called(change.needs)
    return f"at the next load, or now: {waits}" if change.is_on_demand else f"waits for: {waits}"
