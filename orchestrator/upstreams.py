"""Whether what the models name outside of ew is there: directories, variables, servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx

from contract.config import ModelConfig, is_repo_id
from contract.paths import project_dir
from orchestrator.preflight import Check

#: These say in `model_path` what they like.
_WITHOUT_FILES: Final = ("mock", "openai")
_PATIENCE_S: Final = 3.0


def look(models: Mapping[str, ModelConfig]) -> Iterator[Check]:
    """What is missing, and what answers. Blocks for seconds: all servers are asked at once."""
    for model_id, model in models.items():
        yield from _files(model_id, model)
        yield from _command(model_id, model)
        yield from _variable(model_id, model)
    asked = {model_id: model for model_id, model in models.items() if _has_server(model)}
    if asked:
        with ThreadPoolExecutor(max_workers=min(len(asked), 16)) as pool:
            yield from pool.map(_server, asked, asked.values())


def _files(model_id: str, model: ModelConfig) -> Iterator[Check]:
    # To an `openai` server, adapters are names.
    if model.engine in _WITHOUT_FILES:
        return
    named = {"model_path": model.model_path}
    if model.adapter_path:
        named["adapter_path"] = model.adapter_path
    named |= {f"adapters.{name}": path for name, path in model.adapters.items()}
    for key, value in named.items():
        path = project_dir() / Path(value).expanduser()
        if path.exists():
            if not os.access(path, os.R_OK):
                fix = "let the user that runs ew read it"
                yield Check(f"model {model_id}", f"`{key}` cannot be read: {path}", fix, True)
        elif not is_repo_id(value):
            fix = "give a directory (relative to the project) or a Hugging Face repository id"
            yield Check(f"model {model_id}", f"`{key}` does not exist: {value}", fix, True)


def _command(model_id: str, model: ModelConfig) -> Iterator[Check]:
    if model.command and shutil.which(model.command[0]) is None:
        fix = "install it, or give its whole path"
        seen = f"`command`: there is no program `{model.command[0]}`"
        yield Check(f"model {model_id}", seen, fix, is_fatal=True)


def _variable(model_id: str, model: ModelConfig) -> Iterator[Check]:
    name = model.api_key_env
    if name and not os.environ.get(name):
        fix = f"`export {name}=...`, then start the model again"
        seen = f"`api_key_env`: the variable {name} is not set"
        yield Check(f"model {model_id}", seen, fix, is_fatal=True)


def _has_server(model: ModelConfig) -> bool:
    """Whether it is somebody else's server, and we may ask it."""
    is_ready = not model.api_key_env or os.environ.get(model.api_key_env)
    return bool(model.base_url and not model.command and is_ready)


def _server(model_id: str, model: ModelConfig) -> Check:
    what = f"model {model_id}"
    url = model.base_url or ""
    key = os.environ.get(model.api_key_env or "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        status = httpx.get(_models_url(url), headers=headers, timeout=_PATIENCE_S).status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason = str(error) or type(error).__name__
        fix = "start that server, or mend `base_url`"
        return Check(what, f"{url} does not answer: {reason}", fix, is_fatal=True)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        fix = f"see the key in {model.api_key_env}" if key else "name its key with `api_key_env`"
        return Check(what, f"{url} refuses the key ({status})", fix, is_fatal=True)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Check(what, f"{url} answers with an error ({status})", "see that server's log")
    return Check(what, f"{url} answers")


def _models_url(base_url: str) -> httpx.URL:
    """As the engine asks it: under /v1 where only a host is given."""
    url = httpx.URL(base_url)
    return url.copy_with(path=f"{url.path.rstrip('/') or '/v1'}/models")
