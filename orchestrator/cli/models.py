"""`ew models`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, NamedTuple

import typer

from contract.config import Config, names_of
from orchestrator.environments import find_environment
from orchestrator.last_seen import is_supervised
from orchestrator.plan import OWN_ENVIRONMENT, environment_of, read_config
from orchestrator.status import read_status
from orchestrator.terminal import say


class _Model(NamedTuple):
    id: str
    aliases: list[str]
    state: str
    engine: str
    env: str
    is_set_up: bool
    model_path: str


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the configured models."""
    listed = _models(read_config())
    if as_json:
        sys.stdout.write(json.dumps([model._asdict() for model in listed], indent=2) + "\n")
    elif listed:
        sys.stdout.write("\n".join(_table(listed)) + "\n")
    else:
        say("no models are configured; `./ew quickstart` adds one")


def _models(config: Config) -> list[_Model]:
    status = read_status()
    running = {model.id: model.state.value for model in status.models}
    if not is_supervised(status):
        running = {}
    found = []
    for model_id, model in config.models.items():
        engine, env = environment_of(model)
        is_set_up = env == OWN_ENVIRONMENT or find_environment(env) is not None
        names = names_of(model_id, model)[1:]
        state = running.get(model_id, "stopped")
        found.append(_Model(model_id, names, state, engine, env, is_set_up, model.model_path))
    return found


def _table(listed: list[_Model]) -> list[str]:
    width = max(5, *(len(model.id) for model in listed))
    lines = [f"{'MODEL':{width}}  {'STATE':8}  {'ENGINE':9}  {'ENVIRONMENT':20}  PATH"]
    for model in listed:
        env = model.env if model.is_set_up else f"{model.env} (missing)"
        lines.append(
            f"{model.id:{width}}  {model.state:8}  {model.engine:9}  {env:20}  {model.model_path}"
        )
    return lines
