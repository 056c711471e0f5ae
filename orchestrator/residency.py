"""Asking the supervisor to load, unload or pin a model, as the commands of that name do."""

from __future__ import annotations

from contract.messages import State
from orchestrator.control import Load, Pin, Unload
from orchestrator.environments.progress import Progress
from orchestrator.errors import UserError
from orchestrator.reach import reach_supervisor
from orchestrator.stages import Stages, explain_failures, follow_to_the_end


def change_residency(request: Load | Unload | Pin) -> bool:
    """Ask, show how it goes, and wait. False if a model could not be loaded; why has been said
    then.

    Raises `UserError` if nothing runs, or the request was refused.
    """
    control = reach_supervisor()
    if control is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    with control:
        outcomes = follow_to_the_end(control.ask(request), Stages(Progress()))
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; try again")
    if not isinstance(request, Load):
        return True
    return not explain_failures([each for each in outcomes if each.state is not State.READY])
