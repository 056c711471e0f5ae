"""`ew service`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.commands import plain_app
from orchestrator.client import service as unit
from orchestrator.errors import UserError
from orchestrator.terminal.speech import complain, report, say

app = plain_app(help="Run everything as a systemd service.", no_args_is_help=True)

_Name = Annotated[str, typer.Option(help="The unit's name, for several projects on one host.")]
_System = Annotated[
    bool | None,
    typer.Option(
        "--system/--user",
        help="A unit of the system, or of this user. Of the system for root, if not given.",
        show_default=False,
    ),
]


@app.command()
def install(
    name: _Name = "ew",
    system: _System = None,
    run_as: Annotated[
        str | None, typer.Option(help="Whose processes they are; the project's owner if not given.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Start it, too.")] = False,
) -> None:
    """Make the unit, which starts with the machine."""
    service = unit.find_service(name, is_system=system)
    for note in unit.install(service, user=run_as, is_started=now):
        say(note)


@app.command()
def remove(name: _Name = "ew", system: _System = None) -> None:
    """Stop it, and take the unit away."""
    service = unit.find_service(name, is_system=system)
    unit.remove(service)
    say(f"{service.path} is removed")


@app.command()
def status(name: _Name = "ew", system: _System = None) -> None:
    """Say whether it runs, and starts with the machine. Exit code 1 if it does not run."""
    service = unit.find_service(name, is_system=system)
    report(unit.describe(service))
    if not (service.path.exists() and unit.is_active(service)):
        raise typer.Exit(1)


@app.command(name="show")
def show(name: _Name = "ew", system: _System = None) -> None:
    """Print the unit that `install` would write."""
    report(unit.unit_text(unit.find_service(name, is_system=system)).splitlines())


@app.command(hidden=True)
def run() -> None:
    """Run the supervisor in this process: the command of the service's unit."""
    try:
        unit.run_supervisor()
    except UserError as error:
        complain(error.message, error.hint)
        raise typer.Exit(unit.REFUSED) from None
