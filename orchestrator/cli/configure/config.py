"""`ew config`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.config import Config, ConfigError
from contract.config.checks.heeded import remarks
from contract.config.loading import read_source
from contract.config.variables import unknown_variables
from contract.paths import as_called, config_path
from orchestrator.cli.commands import plain_app
from orchestrator.errors import UserError
from orchestrator.supervisor.restarting import running_changes
from orchestrator.terminal.speech import printable, say

app = plain_app(
    help="Check the configuration, explain its keys, or print its schema.", no_args_is_help=True
)


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="Another file than deploy/config.json.")
    ] = None,
    elsewhere: Annotated[
        bool,
        typer.Option(
            "--elsewhere",
            help="It is for another host: don't look whether this one has what it names.",
        ),
    ] = False,
) -> None:
    """Check the configuration file, and the EW_* variables over it.

    Also whether this host has the files, programs, variables and hosts that it names. A fault
    that would make a start fail is an error, with exit code 1; others are warnings.
    """
    file = path or config_path()
    try:
        config, source = read_source(file)
    except ConfigError as error:
        raise UserError(str(error), "`./ew config reference` explains every key") from None
    for line in (*unknown_variables(), *map(source.line, remarks(config))):
        say(f"warning: {line}")
    if not elsewhere:
        _look_around(config, file)
    models = ", ".join(f"`{model_id}`" for model_id in config.models) or "none"
    say(f"{file} is good; models: {models}")


def _look_around(config: Config, file: Path) -> None:
    """Say what is to be minded. Raises `UserError` for what a start would fail for."""
    from orchestrator.config import findings, host_names
    from orchestrator.config import host_checks as surroundings

    found = [*surroundings.look(config, config.models), *host_names.look_up(config)]
    fatal = [each for each in found if each.is_fatal]
    # Faults of a key come before the meaning of its value.
    wrong = [each.keys for each in fatal]
    for line in findings.lines_of((each for each in found if each.keys not in wrong), file):
        say(f"warning: {line}")
    if fatal:
        raise findings.refusal(fatal, file)


@app.command()
def diff() -> None:
    """Show what the file says otherwise than what runs, and what applies it."""
    found = running_changes()
    if not found:
        say("nothing differs from what runs")
    for change in found:
        applied = f"needs: {as_called(change.needs)}" if change.needs else "applied at once"
        line = f"{change.key}: {change.running} -> {change.file}"
        sys.stdout.write(f"{printable(line)}\n  {applied}\n")


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    sys.stdout.write(schema_text())


@app.command()
def reference() -> None:
    """Explain every key and every variable, as docs/configuration.md does."""
    from orchestrator.config.reference import reference as text_of

    sys.stdout.write(text_of())


def schema_text() -> str:
    """Return what deploy/config.schema.json holds."""
    return json.dumps(Config.model_json_schema(by_alias=True), indent=2) + "\n"
