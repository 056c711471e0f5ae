"""`ew env`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.commands import plain_app
from orchestrator.environments.environment import (
    Environment,
    list_environments,
    list_unfinished,
)
from orchestrator.environments.removal import remove as remove_environment
from orchestrator.errors import UserError
from orchestrator.terminal.speech import mebibytes, report, say

app = plain_app(help="List and remove engine environments.", no_args_is_help=True)


@app.command(name="list")
def list_all() -> None:
    """Show the environments, their sizes, and the models that use them."""
    print_environments()


@app.command()
def remove(name: Annotated[str, typer.Argument(help="The environment's name.")]) -> None:
    """Delete an environment, unless something runs in it."""
    remove_environment(name, say)
    say(f"`{name}` is removed")


def print_environments() -> None:
    environments = list_environments()
    if environments:
        report(_table(environments, _models_by_env()))
    else:
        say("no environments; `./ew setup --engine ENGINE` makes one")
    for name in list_unfinished():
        say(f"`{name}` is unfinished: `./ew setup` completes it, `./ew env remove {name}` drops it")


def _table(environments: list[Environment], models: dict[str, list[str]]) -> list[str]:
    width = max(11, *(len(environment.name) for environment in environments))
    head = f"{'ENVIRONMENT':{width}}  {'ENGINE':9}  {'VERSION':9}  {'PYTHON':8}  {'TORCH':13}"
    return [f"{head}  {'MADE BY':10}  {'SIZE':8}  MODELS"] + [
        f"{each.name:{width}}  {each.engine:9}  {each.version:9}  "
        f"{each.versions.get('python', ''):8}  {each.versions.get('torch', ''):13}  "
        f"{each.manager:10}  {mebibytes(each.size_bytes / 2**20):8}  "
        f"{', '.join(models.get(each.name, ())) or '-'}"
        + ("" if each.is_current() else "  (outdated: run `./ew setup` again)")
        for each in environments
    ]


def _models_by_env() -> dict[str, list[str]]:
    # The configuration takes longer to import than all the rest, and `setup` does not need it.
    from orchestrator.config.selection import read_config
    from orchestrator.environments.engine_env import environment_of

    try:
        models = read_config().models
    except UserError:
        return {}
    used: dict[str, list[str]] = {}
    for model_id, model in models.items():
        used.setdefault(environment_of(model)[1], []).append(model_id)
    return used
