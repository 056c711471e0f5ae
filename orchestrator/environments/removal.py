"""Removes engine environments, made by uv or by conda."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.environments.conda import find_conda
from orchestrator.environments.environment import (
    STAMP,
    envs_dir,
    find_environment,
    holding,
    require_name,
)
from orchestrator.errors import UserError
from orchestrator.terminal.progress import Say


def remove(name: str, say: Say) -> None:
    """Delete an environment, finished or not. Raises `UserError` if a process runs in it."""
    path = envs_dir() / require_name(name)
    if not (path.is_dir() or path.is_symlink() or conda_marker(path).exists()):
        raise UserError(f"there is no environment `{name}`", "`./ew env list` shows them")
    with holding(name, say):
        refuse_if_used(name)
        clear(path)


def refuse_if_used(name: str) -> None:
    """Raises `UserError` if a process runs in the environment."""
    environment = find_environment(name)
    users = environment.users() if environment else []
    if users:
        pids = ", ".join(map(str, users))
        raise UserError(f"processes run in `{name}`: {pids}", "stop them first: `./ew stop`")


def clear(path: Path) -> None:
    """Delete whatever is there; from the first moment on no process finds it complete."""
    (path / STAMP).unlink(missing_ok=True)
    marker = conda_marker(path)
    if marker.exists():
        _remove_with_conda(marker.read_text(), path)
        marker.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def conda_marker(path: Path) -> Path:
    """Return the file that says which conda program ew had make an environment."""
    return path.with_name(f".{path.name}.conda")


def _remove_with_conda(program: str, path: Path) -> None:
    conda = find_conda(program)
    if conda is None:
        raise UserError(
            f"`{program}` made the environment `{path.name}`, and is not on the PATH any more",
            f"put it back, or delete {path.resolve()}, {path} and {conda_marker(path)}",
        )
    if conda.prefix(path.name) is not None:
        conda.remove(path.name)
    path.unlink(missing_ok=True)
