"""`ew models`: what is configured, and what of it is on this host."""

from __future__ import annotations

import json
import sys
from typing import Annotated, NamedTuple

import typer
from msgspec import to_builtins

from contract.config import Config, names_of
from contract.model_files.hub_cache import MAIN
from contract.supervision.last_seen import is_supervised
from orchestrator.cli.commands import plain_app
from orchestrator.config.named_host import named_host, require_this_host
from orchestrator.config.selection import read_config
from orchestrator.environments import find_environment
from orchestrator.environments.engine_env import OWN_ENVIRONMENT, environment_of
from orchestrator.errors import UserError
from orchestrator.hub.holdings import holding_of, lines_of, remove, repository_of, running_models
from orchestrator.protocol.status import read_status
from orchestrator.terminal.speech import mebibytes, report, say


class _Model(NamedTuple):
    id: str
    aliases: list[str]
    state: str
    engine: str
    env: str
    is_set_up: bool | None
    model_path: str


app = plain_app(help="List models; pull, show and remove what is downloaded of them.")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List models; pull, show and remove what is downloaded of them."""
    if context.invoked_subcommand is not None:
        require_this_host(f"models {context.invoked_subcommand}")
        return
    listed = _models_of_other_host(url) if (url := named_host()) else _models(read_config())
    if as_json:
        sys.stdout.write(json.dumps([model._asdict() for model in listed], indent=2) + "\n")
    elif listed:
        sys.stdout.write("\n".join(_table(listed)) + "\n")
    else:
        say("no models are configured; `./ew quickstart` adds one")


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A Hugging Face repository, or a model of it.")],
    revision: Annotated[str, typer.Option(help="A branch, a tag or a commit.")] = MAIN,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="These weights only; may be given several times."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what only other libraries read.")
    ] = False,
) -> None:
    """Download a model before its first start.

    Into the cache of Hugging Face's libraries, where engines find it. After an interruption the
    same command goes on where it was.
    """
    from orchestrator.hub.pull import pull_repository

    config = read_config()
    repo = repository_of(model, config)
    directory = pull_repository(repo, revision, config.hub, include or (), everything=everything)
    sys.stdout.write(f"{directory}\n")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="A Hugging Face repository, or a model of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what of a model is on this host, and which parsers read what it says."""
    config = read_config()
    found = holding_of(repository_of(model, config), config)
    if as_json:
        parsers = {name: chosen._asdict() for name, chosen in found.parsers.items()}
        routes = to_builtins(found.routes)
        told = found._asdict() | {"parsers": parsers, "routes": routes}
        sys.stdout.write(json.dumps(told, indent=2, default=str) + "\n")
    else:
        report(lines_of(found))


@app.command()
def rm(
    model: Annotated[str, typer.Argument(help="A Hugging Face repository, or a model of it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what was downloaded of a model.

    The configuration stays as it is: the next start would download the model again.
    """
    config = read_config()
    found = holding_of(repository_of(model, config), config)
    in_use = running_models(found.models)
    if in_use:
        names = ", ".join(f"`{name}`" for name in in_use)
        raise UserError(f"{found.repo} is in use by {names}", f"`./ew stop {in_use[0]}` first")
    if not yes:
        size = mebibytes(found.size_bytes / 2**20)
        typer.confirm(f"delete {found.directory} ({size})?", abort=True, err=True)
    remove(found)
    say(f"{found.repo} is deleted, {mebibytes(found.size_bytes / 2**20)}")


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


def _models_of_other_host(url: str) -> list[_Model]:
    """Return those of its configuration; the environment is known where a worker has one."""
    # Only this needs httpx.
    from orchestrator.client.other_host import other_host

    host = other_host(url)
    running = {model.id: model for model in host.status().models}
    found = []
    for model_id, entry in host.entries().items():
        model = running.get(model_id)
        worker = next(iter(model.workers), None) if model else None
        names = [*filter(None, [entry.get("served_model_name")]), *entry.get("aliases", [])]
        found.append(
            _Model(
                model_id,
                names,
                model.state.value if model else "stopped",
                worker.engine if worker else entry.get("engine", "vllm"),
                worker.env if worker else "",
                True if worker else None,
                entry["model_path"],
            )
        )
    return found


def _table(listed: list[_Model]) -> list[str]:
    width = max(5, *(len(model.id) for model in listed))
    lines = [f"{'MODEL':{width}}  {'STATE':8}  {'ENGINE':9}  {'ENVIRONMENT':20}  PATH"]
    for model in listed:
        env = f"{model.env} (missing)" if model.is_set_up is False else model.env or "-"
        lines.append(
            f"{model.id:{width}}  {model.state:8}  {model.engine:9}  {env:20}  {model.model_path}"
        )
    return lines
