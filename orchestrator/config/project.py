"""The operator's directory, where it is not the clone that `./ew` is in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from contract.paths import ROOT, config_path, project_dir
from orchestrator.errors import UserError

#: Commands that work without a configuration, or make one.
_ANYWHERE: Final = ("quickstart", "config", "test")
#: The files of ew that a new project begins with.
_BEGINNING: Final = ("config.schema.json", "demo-model", "config.json")


def require_project(command: str) -> None:
    """Raises `UserError` if there is nothing that the command could be about: it would only leave
    a state directory behind."""
    if project_dir() == ROOT or command in _ANYWHERE or config_path().exists():
        return
    raise UserError(
        f"{project_dir()} is no project of ew: {config_path()} does not exist",
        "`./ew quickstart` makes one here; `--project DIR` and EW_HOME name another one",
    )


def make_project(directory: Path) -> None:
    """Write a first configuration with the demo model. The model is copied, so that the project
    does not depend on where ew is installed. Files that are there already stay."""
    deploy = directory / "deploy"
    deploy.mkdir(parents=True, exist_ok=True)
    for name in _BEGINNING:
        source, target = ROOT / "deploy" / name, deploy / name
        if target.exists():
            continue
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
