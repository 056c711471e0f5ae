"""`ew estimate`."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import msgspec
import typer

from contract.config import HubConfig, ModelConfig, ids_by_name, is_repo_id
from contract.engines import declaration_of
from orchestrator.client.describing import Installed, ask_engines
from orchestrator.config.selection import StartOptions, chosen_models, read_config
from orchestrator.environments import Environment, default_env_name, find_environment
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import ModelNotHere, locate_model
from orchestrator.estimate.estimate import reads_checkpoint
from orchestrator.gpu.what_if.text import lines_of
from orchestrator.gpu.what_if.what_if import WhatIf, imagined, this_host, what_if
from orchestrator.hub.outline import fetch_outline
from orchestrator.protocol.status import read_status
from orchestrator.terminal.speech import report, say

#: A speculator and the model that it guesses for.
_MOST_REPOSITORIES: Final = 2


def estimate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|REPO]",
            help="A model, or a Hugging Face repository; all configured ones if not given.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="NxGIB", help="On imagined GPUs: `2x80` is two, of 80 GiB each."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Show what models need of the GPUs, and where they would go.

    Works without a GPU. Nothing is loaded or started; of what is not downloaded yet, only
    descriptions are fetched.
    """
    config = read_config()
    if model is not None and is_repo_id(model) and model not in ids_by_name(config.models):
        config = config.model_copy(update={"models": _with_repository(model, config.models)})
    chosen = chosen_models(config, StartOptions(models=(model,) if model else ()))
    for model_id in chosen:
        _fetch_description(config.models[model_id], config.hub, is_needed=model_id == model)
    where = imagined(on) if on else this_host(read_status())
    subjects = filter(None, (_subject_of(config.models[model_id]) for model_id in chosen))
    # The estimate says of each model that was not answered why.
    list(ask_engines(subjects, where.card))
    found = what_if(config.models, chosen, where, _engine_of, _release_of)
    if as_json:
        content = msgspec.json.encode({"gpus": where.devices, "models": [*map(_figures, found)]})
        sys.stdout.write(msgspec.json.format(content).decode() + "\n")
    else:
        report(line for one in found for line in (*lines_of(one), ""))
    if not where.devices:
        say(f"no GPU to place them on: {where.problem}; `--on 1x80` imagines one of 80 GiB")
    elif not all(one.is_good for one in found):
        raise typer.Exit(1)


def _with_repository(repo: str, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
    """Return the configured models, and a repository as if it were one of them."""
    return {**models, repo: ModelConfig(engine="vllm", model_path=repo)}


def _fetch_description(model: ModelConfig, hub: HubConfig, *, is_needed: bool) -> None:
    """Of a model that is yet to be downloaded, and of the one that it guesses for. Raises
    `UserError` only if nothing else is asked."""
    for _ in range(_MOST_REPOSITORIES):
        repo = _missing(model)
        if not repo:
            return
        try:
            fetch_outline(repo, hub)
        except UserError as error:
            if is_needed:
                raise
            say(f"{repo}: {error.message}")
            return


def _missing(model: ModelConfig) -> str:
    """Return the repository that is not on this host; empty if none is needed."""
    try:
        if reads_checkpoint(_engine_of(model)):
            locate_model(model)
    except ModelNotHere as missing:
        return missing.repo
    except UserError:
        # The outlook says what is wrong.
        pass
    return ""


def _engine_of(model: ModelConfig) -> str:
    """`vllm` is looked at as it runs on a GPU, also where there is none."""
    return declaration_of(model.engine).engine


def _environment_of(model: ModelConfig) -> Environment | None:
    """Return the environment that would run it, if it is set up here."""
    engine = _engine_of(model)
    found = find_environment(model.env or default_env_name(engine))
    return found if found is not None and found.engine == engine else None


def _release_of(model: ModelConfig) -> str:
    environment = _environment_of(model)
    return environment.version if environment else ""


def _subject_of(model: ModelConfig) -> Installed | None:
    environment = _environment_of(model)
    if environment is None:
        return None
    return Installed(model, environment.engine, environment.version, environment.python)


def _figures(one: WhatIf) -> dict[str, object]:
    """Return a model as programs read it: bytes on each of its GPUs, and its workers' places."""
    need = one.need
    figures: dict[str, object] = {"id": one.model_id, "engine": one.engine, "error": one.error}
    if need is not None:
        figures |= {
            "gpus_per_worker": need.estimate.gpus,
            "workers": need.model.replicas,
            "parts": need.estimate.parts,
            "kv_cache": need.estimate.kv_cache,
            "least_bytes": need.estimate.least_bytes,
            "wanted_bytes": need.estimate.wanted_bytes,
            "fraction": need.estimate.fraction,
            "notes": need.estimate.notes,
            "source": need.estimate.source,
            "own_reading": need.estimate.own_reading,
            "measured": need.footprint,
        }
    return figures | {
        "running": one.reservations,
        "placed": one.assignments,
        "refused": one.refusals,
    }
