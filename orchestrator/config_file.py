"""Additions to deploy/config.json that ew makes itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from contract.config import Config, ids_by_name, is_repo_id
from contract.paths import project_dir
from orchestrator.errors import UserError


def add_model(path: Path, config: Config, model_path: str) -> tuple[str, bool]:
    """See that a model is configured. Answers its id, and whether it had to be added.

    `model_path` is a directory, a Hugging Face repository, or the id of a model that is there.
    Raises `UserError` if it is none of them.
    """
    ids = ids_by_name(config.models)
    if model_path in ids:
        return ids[model_path], False
    location = _location(model_path)
    for model_id, model in config.models.items():
        if model.model_path == location:
            return model_id, False
    model_id = _free_id(location, ids)
    entry: dict[str, Any] = {"engine": "vllm", "model_path": location}
    if not (project_dir() / location).is_dir():
        entry["aliases"] = [location]
    _write(path, model_id, entry)
    return model_id, True


def _location(model_path: str) -> str:
    """A directory as the configuration names it: relative to the project where that works."""
    candidates = (Path(model_path).expanduser(), project_dir() / model_path)
    directory = next((path for path in candidates if path.is_dir()), None)
    if directory is None:
        if is_repo_id(model_path):
            return model_path
        raise UserError(
            f"`{model_path}` is neither a directory nor a Hugging Face repository",
            "a repository is named as in `Qwen/Qwen2.5-0.5B-Instruct`",
        )
    return as_configured(directory.absolute())


def as_configured(path: Path) -> str:
    """A path in full, as the configuration should have it: relative to the project if inside."""
    project = project_dir()
    return str(path.relative_to(project) if path.is_relative_to(project) else path)


def _free_id(location: str, taken: Collection[str]) -> str:
    """`Qwen/Qwen2.5-0.5B-Instruct` is asked for as `qwen2.5-0.5b-instruct`."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", Path(location).name.lower()).strip("._-")[:80] or "model"
    candidates = [plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in candidates if name not in taken)


def _write(path: Path, model_id: str, entry: dict[str, Any]) -> None:
    data = json.loads(path.read_text())
    data.setdefault("models", {})[model_id] = entry
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(json.dumps(data, indent=2) + "\n")
    shutil.copymode(path, scratch)
    scratch.replace(path)
