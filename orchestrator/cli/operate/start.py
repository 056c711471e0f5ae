"""`ew start`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from orchestrator.client.describing import ask_before
from orchestrator.client.foreground import run_in_foreground
from orchestrator.client.startup import bring_up
from orchestrator.config.selection import StartOptions, read_config, role_named, start_request
from orchestrator.environments import find_environment
from orchestrator.errors import UserError
from orchestrator.protocol.start_turn import StartTurn


def start(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Start only these models.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Only models with this engine, such as cuda-trt.")
    ] = None,
    model: Annotated[
        # How models were named before they were arguments; scripts may have it.
        list[str] | None, typer.Option(hidden=True)
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Run the models in this environment instead of theirs.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The gateway's port; 0 takes any that is free."),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            metavar="all|gateway|workers",
            help="Run only the gateway here, or only workers; the rest is on other hosts.",
        ),
    ] = "all",
    unless_running: Annotated[
        bool, typer.Option("--unless-running", help="Do nothing if anything is started already.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and stop everything at Ctrl-C.")
    ] = False,
) -> None:
    """Start models, and what they need.

    Starts every model that is configured for this host, unless told which. Waits until they are
    ready. Models that run already go on as they are.
    """
    if env is not None:
        require_environment(env)
    choice = StartOptions(
        models=(*(models or ()), *(model or ())),
        engine=engine,
        env=env,
        port=port,
        role=role_named(role),
    )
    request = msgspec.structs.replace(
        start_request(read_config(), choice), unless_running=unless_running
    )
    with StartTurn() as turn:
        ask_before(request)
        is_good = run_in_foreground(request, turn) if foreground else bring_up(request, turn)
    if not is_good:
        raise typer.Exit(1)


def require_environment(name: str) -> None:
    """Raises `UserError`, also where no chosen model would have used it."""
    if find_environment(name) is None:
        hint = "`./ew env list` shows them, `./ew setup` makes one"
        raise UserError(f"there is no environment `{name}`", hint)
