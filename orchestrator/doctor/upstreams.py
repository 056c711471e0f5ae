"""The servers that others run and models name: whether they answer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx

from contract.config import ModelConfig
from orchestrator.environments.preflight import Check

_PATIENCE_S: Final = 3.0


def ask(models: Mapping[str, ModelConfig]) -> Iterator[Check]:
    """Yield what answers. Blocks for seconds: all servers are asked at once."""
    asked = {model_id: model for model_id, model in models.items() if _has_server(model)}
    if asked:
        with ThreadPoolExecutor(max_workers=min(len(asked), 16)) as pool:
            yield from pool.map(_server, asked, asked.values())


def _has_server(model: ModelConfig) -> bool:
    """Return whether it is a server that ew does not start, and may ask."""
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
