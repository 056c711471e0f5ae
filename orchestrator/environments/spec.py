"""The environment that `./ew setup` will make: an engine's release, its name, and its packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contract.engines import EngineDeclaration, Release
from contract.paths import logs_dir
from orchestrator.environments.conda import PROGRAMS, Conda, find_conda
from orchestrator.environments.declaration import find_engine, find_release
from orchestrator.environments.environment import (
    Environment,
    default_env_name,
    envs_dir,
    find_environment,
    require_name,
)
from orchestrator.errors import UserError

MANAGERS: Final = (*PROGRAMS, "uv")


@dataclass(frozen=True)
class EnvironmentSpec:
    """One environment to be. `conda` None means that uv makes it."""

    engine: EngineDeclaration
    release: Release
    name: str
    conda: Conda | None
    wheelhouse: Path | None

    @property
    def path(self) -> Path:
        return envs_dir() / self.name

    @property
    def manager(self) -> str:
        return self.conda.name if self.conda else "uv"

    @property
    def log(self) -> Path:
        return logs_dir() / f"setup-{self.name}.log"

    def made(self) -> Environment | None:
        """Return the environment, if it is there already and as the declaration wants it today."""
        found = find_environment(self.name)
        if found is None or found.version != self.release.version or not found.is_current():
            return None
        return found


def environment_spec(
    engine: str,
    env_name: str | None = None,
    *,
    version: str | None = None,
    manager: str | None = None,
    wheelhouse: Path | None = None,
) -> EnvironmentSpec:
    """Decide what to make. `engine` may be `ENGINE@VERSION`. Raises `UserError`."""
    engine, _, suffix = engine.partition("@")
    declared = find_engine(engine)
    release = find_release(declared, version or suffix or None)
    name = require_name(env_name or default_env_name(engine, release.version))
    if wheelhouse is not None and not wheelhouse.is_dir():
        raise UserError(f"{wheelhouse} is not a directory", "give one that holds the wheels")
    present = find_environment(name)
    if present is not None and present.engine != engine:
        raise UserError(
            f"`{name}` is an environment for {present.engine} {present.version}",
            f"choose another `--env`, or `./ew env remove {name}` first",
        )
    return EnvironmentSpec(declared, release, name, _manager(manager), wheelhouse)


def _manager(name: str | None) -> Conda | None:
    """Return the conda program to use; None for uv, which is always there."""
    if name == "uv":
        return None
    if name is not None and name not in MANAGERS:
        raise UserError(f"no environment manager `{name}`", f"known: {', '.join(MANAGERS)}")
    found = find_conda(name)
    if name is not None and found is None:
        raise UserError(f"`{name}` is not on the PATH", "install it, or use `--manager uv`")
    return found
