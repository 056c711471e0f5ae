"""`ew quickstart`."""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from contract.config import Config, TlsConfig
from contract.keys import find_key
from contract.paths import ROOT, config_path, project_dir, state_dir
from contract.process.tls import files_of, present
from contract.supervision.status import GatewayStatus
from orchestrator.cli.operate.status import status as show_status
from orchestrator.client.gateway_access import reach_gateway, running_gateway
from orchestrator.client.gateway_client import Gateway
from orchestrator.client.startup import bring_up
from orchestrator.config.config_file import add_model
from orchestrator.config.key_file import KeyFile
from orchestrator.config.project import make_project
from orchestrator.config.selection import StartOptions, read_config, start_request
from orchestrator.environments import find_environment
from orchestrator.environments.engine_env import OWN_ENVIRONMENT, environment_of
from orchestrator.environments.setup import set_up
from orchestrator.protocol.start_turn import StartTurn
from orchestrator.system.files import write_atomically
from orchestrator.terminal.progress import Progress
from orchestrator.terminal.speech import duration, printable, say

_QUESTION: Final = "What is ew?"
_KEY_NAME: Final = "quickstart"
_DEFAULT_MODEL: Final = "demo"
_DEFAULT_MODEL_PATH: Final = "deploy/demo-model"


def quickstart(
    model: Annotated[
        str | None,
        typer.Option(help="A Hugging Face repository or a directory instead of the demo model."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The gateway's port; 0 takes any that is free."),
    ] = None,
) -> None:
    """From nothing to a streamed answer: set up, start, ask.

    Makes the environment of the engine (vLLM for the GPU, if there is one), an API key, starts
    everything and asks the model a question. Parts that are there already are used.
    """
    began = time.monotonic()
    model_id = _configured_model(model)
    config = read_config()
    with StartTurn() as turn:
        _set_up(config, model_id)
        key = _key()
        say(f"starting `{model_id}`")
        request = start_request(config, StartOptions(models=(model_id,), port=port))
        if not bring_up(request, turn):
            raise typer.Exit(1)
    _ask(reach_gateway(key), model_id)
    say(f"\nthat took {duration(time.monotonic() - began)} in all; ask again with")
    sys.stdout.write(f"\n{_curl(_where(running_gateway(), config.gateway.tls), key, model_id)}\n\n")
    show_status()


def _configured_model(wanted: str | None) -> str:
    if not config_path().exists() and project_dir() != ROOT:
        make_project(project_dir())
        say(f"{project_dir()} is a project of ew now: its models are in {config_path()}")
    config = read_config()
    if wanted is None and config.models:
        return _DEFAULT_MODEL if _DEFAULT_MODEL in config.models else next(iter(config.models))
    model_id, is_new = add_model(config_path(), config, wanted or _DEFAULT_MODEL_PATH)
    if is_new:
        say(f"{config_path()} has a new model: `{model_id}`")
    return model_id


def _set_up(config: Config, model_id: str) -> None:
    """See that the engine's environment is there."""
    engine, env = environment_of(config.models[model_id])
    if env != OWN_ENVIRONMENT and find_environment(env) is None:
        say(f"setting up {engine} in the environment `{env}`; this is needed only once")
        progress = Progress()
        set_up(engine, env, say=progress.say, progress=progress.update)
        progress.clear()


def _key() -> str:
    """Return the key that is kept for this command, or a new one."""
    path = state_dir() / "quickstart.key"
    keys = KeyFile()
    text = path.read_text().strip() if path.exists() else ""
    if find_key(keys.records(), text, time.time()) is None:
        keys.forget(lambda record: record.name == _KEY_NAME)
        new = keys.add(_KEY_NAME)
        text = new.text
        write_atomically(path, f"{text}\n".encode())
        say(f"made the API key `{_KEY_NAME}` ({new.record.id}), kept in {path}")
    return text


def _ask(gateway: Gateway, model_id: str) -> None:
    say(f"\n> {_QUESTION}")
    for piece in gateway.stream({"modelId": model_id, "prompt": _QUESTION}):
        sys.stdout.write(printable(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _curl(where: str, key: str, model_id: str) -> str:
    body = json.dumps({"modelId": model_id, "prompt": _QUESTION}, separators=(",", ":"))
    return (
        f"curl -N {where}/api/v1/inference/stream -H 'X-API-Key: {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def _where(gateway: GatewayStatus, tls: TlsConfig | None) -> str:
    """Return curl's arguments for a gateway. A certificate is for names: one of them is taken for
    the gateway's address, where the certificate does not have that."""
    if tls is None:
        return gateway.url
    files, parts = files_of(tls), urlsplit(gateway.url)
    names = [name for name in present(files).names if "*" not in name]
    name = parts.hostname if parts.hostname in names else next(iter(names), parts.hostname)
    trusted = f"--cacert {shlex.quote(str(files.certificate))}"
    if name == parts.hostname:
        return f"{trusted} {gateway.url}"
    return f"{trusted} --connect-to ::{parts.netloc} https://{name}:{parts.port}"
