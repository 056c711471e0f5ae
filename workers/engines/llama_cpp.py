"""GGUF files: llama.cpp's own server, started with the worker, as the `openai` engine meets any."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

from contract.config import ModelConfig, WorkerSpec
from contract.model_files.hub_cache import file_of
from workers.engines.openai.engine import OpenAiEngine
from workers.engines.openai.upstream import UpstreamSettings

_KEY: Final = "LLAMA_API_KEY"
_SLOTS: Final = 4


def llama_cpp_engine(spec: WorkerSpec) -> OpenAiEngine:
    """Return an engine that brings its server. Raises `ValueError` if the model cannot be served
    so."""
    model = spec.model
    if model.adapters or model.adapter_path:
        raise ValueError("`adapters`: the llama-cpp engine loads none")
    path = file_of(model.model_path)
    if path is None:
        raise ValueError(f"`model_path`: there is no file {model.model_path}")
    # Whatever runs on this machine could ask it otherwise, a page in a browser included.
    os.environ[_KEY] = secrets.token_hex(16)
    known = {field.name for field in dataclasses.fields(UpstreamSettings)}
    settings = {name: value for name, value in model.engine_args.items() if name in known}
    upstream = model.model_copy(
        update={
            "command": _command(spec, path),
            "engine_args": settings,
            "upstream_model": spec.model_id,
            "api_key_env": _KEY,
            "max_batch_size": model.max_batch_size or _SLOTS,
        }
    )
    return OpenAiEngine(spec.model_copy(update={"model": upstream}))


def _command(spec: WorkerSpec, path: Path) -> list[str]:
    program = [sys.executable, "-m", "workers.engines.llama_server"]
    return [*program, "{port}", spec.model_id, str(path), json.dumps(parameters(spec.model))]


def parameters(model: ModelConfig) -> dict[str, Any]:
    """llama.cpp's own, by the names that its library gives them. Without a bound of its own, a
    request may have the whole context that the model was made for, which all share then."""
    known = {field.name for field in dataclasses.fields(UpstreamSettings)}
    own = {name: value for name, value in model.engine_args.items() if name not in known}
    slots = model.max_batch_size or _SLOTS
    context = model.context_len
    sizes = {"n_parallel": slots, "n_ctx": (context or 0) * slots, "kv_unified": context is None}
    return sizes | own
