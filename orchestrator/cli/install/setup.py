"""`ew setup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.install.env import print_environments
from orchestrator.environments import resolve_engine
from orchestrator.environments.declaration import load_engines
from orchestrator.environments.setup import carry_out, require_uv
from orchestrator.environments.spec import MANAGERS, environment_spec
from orchestrator.errors import UserError
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import report


def setup(
    engine: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(load_engines())}; ENGINE@VERSION works too."),
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="The environment's name; `ew-ENGINE` if not given.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Another version than the engine's default.")
    ] = None,
    manager: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(MANAGERS)}; conda's family if it is installed, else uv."),
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Install from this folder of wheels, without a network.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the preflight finds something missing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="Show the environments that there are.")
    ] = False,
) -> None:
    """Make the environment that an engine runs in.

    Looks first whether the engine can work here, installs what its lock says, proves that it
    works, and does nothing if all that is done already. Several versions live side by side.
    """
    if list_all:
        print_environments()
        return
    if engine is None:
        known = ", ".join(f"`{name}`" for name in load_engines())
        raise UserError("no engine is given", f"`--engine` with one of {known}")
    name, at, suffix = engine.partition("@")
    spec = environment_spec(
        f"{resolve_engine(name)}{at}{suffix}",
        env,
        version=version,
        manager=manager,
        wheelhouse=wheelhouse.absolute() if wheelhouse else None,
    )
    if dry_run:
        from orchestrator.environments.dry_run import dry_run_steps

        report(dry_run_steps(spec, require_uv()))
        return
    made = spec.made()
    progress = Progress()
    if made:
        progress.say(f"`{made.name}` is there already, and current")
        return
    carry_out(spec, force=force, say=progress.say, progress=progress.update)
