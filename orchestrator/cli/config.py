"""`ew config`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from contract.config import Config, ConfigError, load_config
from contract.config.variables import unknown_variables
from contract.paths import config_path
from orchestrator.cli import plain_app
from orchestrator.errors import UserError
from orchestrator.terminal import say

app = plain_app(help="Check the configuration, or print its schema.", no_args_is_help=True)


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="Another file than deploy/config.json.")
    ] = None,
) -> None:
    """Check the configuration file, and the EW_* variables over it."""
    file = path or config_path()
    try:
        config = load_config(file)
    except ConfigError as error:
        raise UserError(str(error), "`./ew config schema` lists every key") from None
    for line in unknown_variables():
        say(f"mind: {line}")
    models = ", ".join(f"`{model_id}`" for model_id in config.models) or "none"
    say(f"{file} is good; models: {models}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    sys.stdout.write(schema_text())


def schema_text() -> str:
    """What deploy/config.schema.json holds."""
    return json.dumps(Config.model_json_schema(by_alias=True), indent=2) + "\n"
