"""Having a model loaded, unloaded or pinned, as the commands of that name do: by the supervisor of
this host, or by another host that is named."""

from __future__ import annotations

from contract.supervision.control import Load, Outcome, Pin, Unload
from orchestrator.client.reach import reach_supervisor
from orchestrator.client.stages import Stages, follow_to_the_end, say_why_nothing_was_done
from orchestrator.config.aliases import known_id
from orchestrator.config.named_host import named_host
from orchestrator.errors import UserError
from orchestrator.terminal.progress import Progress


def model_id(name: str) -> str:
    """Return the id of the model that has this name; the name itself on another host, which knows
    its own. Raises `UserError` if this host has none."""
    return name if named_host() else known_id(name)


def change_residency(request: Load | Unload | Pin) -> list[Outcome]:
    """Ask, show how it goes, say where nothing had to be done, and wait. Returns what became of
    the model's workers; those of a pin are none, unless nothing had to be done.

    Raises `UserError` if nothing runs, or the request was refused.
    """
    outcomes = _of_other_host(url, request) if (url := named_host()) else _of_this_host(request)
    say_why_nothing_was_done(outcomes)
    return outcomes


def _of_other_host(url: str, request: Load | Unload | Pin) -> list[Outcome]:
    # Only this needs httpx.
    from orchestrator.client.other_host import other_host

    return other_host(url).change(request)


def _of_this_host(request: Load | Unload | Pin) -> list[Outcome]:
    control = reach_supervisor()
    if control is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    with control:
        outcomes = follow_to_the_end(control.ask(request), Stages(Progress()))
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; try again")
    return outcomes
