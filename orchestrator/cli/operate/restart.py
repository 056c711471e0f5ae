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
) -> None:
    """Restart models or the gateway, with the settings of the file.

    Nothing is lost: open answers go on, new requests are taken or wait. Models that do not run are
    not started. Without arguments, everything that runs is restarted but Redis. If ew was changed
    while it ran, its supervisor is replaced first, by one of the version that is installed.
    """
    if former := go_over():
        say(f"the supervisor is of ew {version()} now; before, it was of {former}")
    names = what or []
    models = [known_id(name) for name in names if name != GATEWAY]
    control = reach_supervisor()
    if control is None:
        raise UserError("ew does not run", "`./ew start` starts what is configured")
    request = restart_request(models, gateway=GATEWAY in names) if names else restart_request()
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


def _say_what_waits() -> None:
    """Tell of changes that no restart applies."""
    for change in running_changes():
        if change.effect is Effect.ANEW:
            waits = f"{change.key}: {change.running} -> {change.file} waits for: {change.needs}"
            warn(as_called(waits))
