"""`ew restart`."""

from __future__ import annotations

from typing import Annotated

import typer

from contract.messages import State
from contract.paths import as_called
from orchestrator.cli.operate.going_over import go_over
from orchestrator.client.reach import reach_supervisor
from orchestrator.client.stages import (
    Stages,
    explain_failures,
    follow_to_the_end,
    say_why_nothing_was_done,
)
from orchestrator.config.aliases import known_id
from orchestrator.config.effects import Effect
from orchestrator.errors import UserError
from orchestrator.protocol.specs import GATEWAY
from orchestrator.supervisor.restarting import restart_request, running_changes
from orchestrator.system.version import version
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import say, warn


def restart(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL|gateway]...", help="Restart only these."),
    ] = None,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway", help="Restart ew's gateway, also where a model is called `gateway`."
        ),
    ] = False,
) -> None:
    """Restart models or the gateway, with the settings of the file.

    Nothing is lost: open answers go on, new requests are taken or wait. Models that do not run are
    not started. Without arguments, everything that runs is restarted but Redis. If ew was changed
    while it ran, its supervisor is replaced first, by one of the version that is installed.
    """
    if former := go_over():
        say(f"the supervisor is of ew {version()} now; before, it was of {former}")
    models, with_gateway = _chosen(what or [], gateway=gateway)
    control = reach_supervisor()
    if control is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    request = restart_request(models, gateway=with_gateway)
    with control:
        outcomes = follow_to_the_end(control.ask(request), Stages(Progress()))
    if outcomes is None:
        raise UserError("the supervisor has gone away", "see logs/supervisor.log; try again")
    say_why_nothing_was_done(outcomes)
    if request.gateway is not None and any(
        each.slot == GATEWAY and not each.note for each in outcomes
    ):
        say("gateway has new processes")
        _say_what_waits()
    # A model on demand may rest when its restart has ended.
    at_rest = (State.SLEEPING, State.STOPPED)
    if explain_failures([each for each in outcomes if each.state not in at_rest]):
        raise typer.Exit(1)


def _chosen(names: list[str], *, gateway: bool) -> tuple[list[str] | None, bool]:
    """Return the models, or None for all that run, and whether the gateway is meant. A name that
    is a model's means the model. Raises `UserError`."""
    if not names and not gateway:
        return None, True
    if GATEWAY in names and not _is_model(GATEWAY):
        names = [name for name in names if name != GATEWAY]
        gateway = True
    elif GATEWAY in names and not gateway:
        say(as_called("`gateway` is a model here; `./ew restart --gateway` restarts ew's own"))
    return [known_id(name) for name in names], gateway


def _is_model(name: str) -> bool:
    try:
        return known_id(name) == name
    except UserError:
        return False


def _say_what_waits() -> None:
    """Tell of changes that no restart applies."""
    for change in running_changes():
        if change.effect is Effect.ANEW:
            waits = f"{change.key}: {change.running} -> {change.file} waits for: {change.needs}"
            warn(as_called(waits))
