"""Asking the supervisor to load, unload or pin a model, as the commands of that name do."""

from __future__ import annotations

from contract.supervision.control import Load, Outcome, Pin, Unload
from orchestrator.client.reach import reach_supervisor
from orchestrator.client.stages import Stages, follow_to_the_end, say_why_nothing_was_done
from orchestrator.errors import UserError
from orchestrator.terminal.progress import Progress


def change_residency(request: Load | Unload | Pin) -> list[Outcome]:
    """Ask, show how it goes, say where nothing had to be done, and wait. Returns what became of
    the model's workers; those of a pin are none, unless nothing had to be done.

    Raises `UserError` if nothing runs, or the request was refused.
    """
    control = reach_supervisor()
    if control is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    with control:
        outcomes = follow_to_the_end(control.ask(request), Stages(Progress()))
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; try again")
    say_why_nothing_was_done(outcomes)
    return outcomes
