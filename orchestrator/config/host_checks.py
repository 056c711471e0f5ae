"""Checks of the things that the configuration names: files, programs, variables. Whether they are
here is true of this host alone, so `contract.config` knows nothing of it.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from contract.config import Config, GatewayConfig, ModelConfig, is_repo_id
from contract.engines import declaration_of
from contract.model_files.hub_cache import file_of, snapshot_of
from contract.paths import project_dir
from contract.process.host_name import is_here
from contract.process.ports import is_loopback
from contract.spelling import did_you_mean
from orchestrator.config.findings import Finding, lines_of, refusal
from orchestrator.config.gateway_files import look_at_certificate, look_at_secret
from orchestrator.environments import find_environment
from orchestrator.environments.engine_arguments import known_arguments
from orchestrator.environments.engine_env import environment_of
from orchestrator.errors import UserError
from orchestrator.hub.access import hub_variables
from orchestrator.terminal.speech import warn

#: Files of which a model's directory has one: of Hugging Face, or of Mistral.
_DESCRIPTIONS: Final = ("config.json", "params.json")
#: Of `engine_args`, what says that the description lies elsewhere.
_OTHER_DESCRIPTIONS: Final = ("hf_config_path", "config_format", "load_format")
_OF_ADAPTERS: Final = "adapter_config.json"
_DIRECTORY_OR_REPOSITORY: Final = (
    "give a directory (relative to the project) or a Hugging Face repository id"
)


def look(config: Config, model_ids: Collection[str], env: str | None = None) -> Iterator[Finding]:
    """Yield what these models, and the hub that they are from, need and do not find. `env` is an
    environment to run them in instead of theirs. Takes milliseconds."""
    models = {model_id: config.models[model_id] for model_id in model_ids}
    yield from _listeners(config.gateway)
    if config.gateway.tls is not None:
        yield from look_at_certificate(config.gateway.tls)
    if config.keys.source is not None and is_here(config.gateway.hosts):
        yield from look_at_secret(config.keys)
    for model_id, model in models.items():
        for found in _of_model(model):
            keys = ["models", model_id, *found.keys]
            yield found._replace(keys=keys, message=f"`{'.'.join(keys)}` {found.message}")
        yield from _arguments(model_id, model, env)
    try:
        hub_variables(config.hub)
    except UserError as error:
        key = "token_file" if config.hub.token_env is None else "token_env"
        is_needed = any(map(is_from_hub, models.values()))
        yield Finding(["hub", key], error.message, error.hint, is_needed)


def require(config: Config, model_ids: Collection[str], file: Path, env: str | None = None) -> None:
    """Warn of what `look` finds. Raises `UserError` with all of it that is fatal."""
    found = list(look(config, model_ids, env))
    fatal = [finding for finding in found if finding.is_fatal]
    for finding in found:
        if not finding.is_fatal:
            warn(*lines_of([finding], file))
    if fatal:
        raise refusal(fatal, file)


def is_from_hub(model: ModelConfig) -> bool:
    """Return whether the model is to be downloaded, or was; maybe by a server that ew starts."""
    return is_repo_id(model.model_path) and not (project_dir() / model.model_path).exists()


def _listeners(gateway: GatewayConfig) -> Iterator[Finding]:
    """Addresses that other machines reach, and what can be read there."""
    if gateway.tls is None and not is_loopback(gateway.host):
        message = (
            f"`gateway.host` is {gateway.host}: other machines reach the gateway, without TLS, and "
            "who is on the way reads keys and prompts"
        )
        fix = "set `gateway.tls`, or let a proxy with TLS pass them on to 127.0.0.1"
        yield Finding(["gateway", "host"], message, fix, False)
    if gateway.admin_port is not None and not is_loopback(gateway.admin_host):
        message = (
            f"`gateway.admin_host` is {gateway.admin_host}: other machines read /metrics and the "
            "API's description there without a key"
        )
        fix = "keep the port to a network that only your monitoring reaches"
        yield Finding(["gateway", "admin_host"], message, fix, False)


def _arguments(model_id: str, model: ModelConfig, env: str | None) -> Iterator[Finding]:
    """`engine_args` that the engine's release does not have."""
    if not model.engine_args:
        return
    engine, env_name = environment_of(model, env)
    keys = ["models", model_id, "engine_args"]
    environment = find_environment(env_name)
    known = known_arguments(engine, environment)
    if known is None:
        where = f"`{'.'.join(keys)}` cannot be checked: the environment `{env_name}`"
        if environment is None:
            fix = f"`./ew setup --engine {engine} --env {env_name}`"
            yield Finding(keys, f"{where} is not set up", fix, False)
        else:
            fix = "its engine looks at them when it starts"
            yield Finding(keys, f"{where} does not show what it takes", fix, False)
        return
    for name in model.engine_args:
        if name not in known.names:
            path = [*keys, name]
            message = f"`{'.'.join(path)}`: {known.release} has no such argument"
            near = did_you_mean(name, known.names).removeprefix("; ")
            yield Finding(path, message, near or "remove it", known.is_sure)


def _of_model(model: ModelConfig) -> Iterator[Finding]:
    """With keys below the model, and messages without them."""
    if declaration_of(model.engine).model != "none":
        yield from _model_path(model)
        yield from _adapters(model)
        yield from _score_template(model)
    if model.command:
        yield from _program(model.command[0])
    for pattern in model.pass_env:
        if not any(fnmatchcase(name, pattern) for name in os.environ):
            message = f"names {pattern}, and no such variable is set"
            yield Finding(["pass_env"], message, f"`export {pattern}=...`, if it is needed", False)
    name = model.api_key_env
    if name and not os.environ.get(name):
        message = f"is the variable {name}, which is not set"
        yield Finding(["api_key_env"], message, f"`export {name}=...`, then `./ew start`")


def _model_path(model: ModelConfig) -> Iterator[Finding]:
    value = model.model_path
    if declaration_of(model.engine).model == "gguf":
        yield from _gguf(value)
    elif "://" in value:
        # Object storage, which the engine reads itself.
        return
    elif (path := project_dir() / value).exists():
        yield from _unreadable(["model_path"], path)
        is_described = any(name in model.engine_args for name in _OTHER_DESCRIPTIONS)
        if path.is_dir() and not is_described and not _has_any(path, _DESCRIPTIONS):
            message = f"has no model in it: there is no config.json in {path}"
            yield Finding(["model_path"], message, _below(path, "config.json"))
    elif not is_repo_id(value):
        yield Finding(["model_path"], f"does not exist: {value}", _in_full(value))
    else:
        yield from _misspelt(value)


def _gguf(value: str) -> Iterator[Finding]:
    if (file := file_of(value)) is not None:
        yield from _unreadable(["model_path"], file)
        return
    parts = value.split("/")
    repo, file_there = "/".join(parts[:2]), "/".join(parts[2:])
    fix = "give a GGUF file (relative to the project), or `ORG/REPO/FILE.gguf` of a hub"
    if file_there and is_repo_id(repo):
        fix = f"if it is on a hub: `./ew models pull {repo} --include '{file_there}'`"
    yield Finding(["model_path"], f"is no file here: {value}", fix)


def _misspelt(value: str) -> Iterator[Finding]:
    """Yield what looks like a repository, and like a directory of the project still more."""
    parent, _, name = value.partition("/")
    if not (project_dir() / parent).is_dir() or snapshot_of(value) is not None:
        return
    beside = [path.name for path in (project_dir() / parent).iterdir()]
    near = difflib.get_close_matches(name, beside, n=1)
    fix = f"did you mean `{parent}/{near[0]}`?" if near else "is the directory elsewhere?"
    message = f"is not here, so `{value}` is taken for a Hugging Face repository"
    yield Finding(["model_path"], message, fix, is_fatal=False)


def _score_template(model: ModelConfig) -> Iterator[Finding]:
    if model.score_template is None:
        return
    path = project_dir() / Path(model.score_template).expanduser()
    if path.is_file():
        yield from _unreadable(["score_template"], path)
    else:
        message = f"does not exist: {model.score_template}"
        yield Finding(["score_template"], message, _in_full(model.score_template))


def _adapters(model: ModelConfig) -> Iterator[Finding]:
    named: dict[tuple[str, ...], str] = {
        ("adapters", name): path for name, path in model.adapters.items()
    }
    if model.adapter_path is not None:
        named["adapter_path",] = model.adapter_path
    is_directory = declaration_of(model.engine).adapters == "directory"
    for keys, value in named.items():
        path = project_dir() / Path(value).expanduser()
        if path.exists():
            yield from _unreadable([*keys], path)
            if not _has_any(path, (_OF_ADAPTERS,)):
                message = f"has no adapter in it: there is no {_OF_ADAPTERS} in {path}"
                yield Finding([*keys], message, _below(path, _OF_ADAPTERS))
        elif is_directory or not is_repo_id(value):
            yield Finding([*keys], f"does not exist: {value}", _in_full(value))


def _program(name: str) -> Iterator[Finding]:
    """Yield a worker finds programs beside its Python, too."""
    searched = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    if "/" in name:
        candidates = [project_dir() / name]
    else:
        candidates = [Path(directory) / name for directory in searched.split(os.pathsep)]
    there = [path for path in candidates if path.is_file()]
    if any(os.access(path, os.X_OK) for path in there):
        return
    if there:
        message = f"is a file that may not be executed: {there[0]}"
        yield Finding(["command"], message, f"`chmod +x {there[0]}`")
    else:
        message = f"needs the program `{name}`, which is not there"
        yield Finding(["command"], message, "install it, or give its whole path")


def _unreadable(keys: list[str], path: Path) -> Iterator[Finding]:
    if not os.access(path, os.R_OK):
        yield Finding(keys, f"cannot be read: {path}", "let the user that runs ew read it")


def _has_any(directory: Path, names: Iterable[str]) -> bool:
    return any((directory / name).exists() for name in names)


def _below(path: Path, name: str) -> str:
    """Return a hint: a path to the parent of the right directory is the likeliest mistake."""
    found = next(iter(sorted(path.glob(f"*/{name}"))), None)
    if found is not None:
        return f"did you mean {found.parent}?"
    return _DIRECTORY_OR_REPOSITORY


def _in_full(value: str) -> str:
    """Engines do not know `~`."""
    path = Path(value).expanduser()
    return f"write it in full: {path}" if path.exists() else _DIRECTORY_OR_REPOSITORY
