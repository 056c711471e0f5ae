"""The engines that ew can set up: deploy/engines/*.json, one declaration each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract.paths import ROOT
from orchestrator.errors import UserError

ENGINES_DIR: Final = ROOT / "deploy" / "engines"
#: What a worker needs in every engine's environment.
WORKER_REQUIREMENTS: Final = ENGINES_DIR / "worker.in"


class Advice(NamedTuple):
    """Something to know before using a release, and what to do about it."""

    warning: str
    advice: str


@dataclass(frozen=True)
class Release:
    """One version of an engine's library: what it needs, and what to install for it."""

    version: str
    #: The Pythons it runs on, the preferred one first.
    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    requirements: tuple[str, ...]
    #: What uv shall take in place of other packages' requirements when a lock is made.
    overrides: tuple[str, ...] = ()
    #: The lock's file name. Without a lock only `requirements` are pinned, and no hash is checked.
    lock: str = ""
    why_no_lock: str = ""
    #: Packages that come from an index of their own.
    indexes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: SHA-256 of the wheels of such a package, by the tags of their file names.
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Packages of which a lock may have a pre-release, each with the reason.
    prereleases: dict[str, str] = field(default_factory=dict)
    #: Checks of `orchestrator.environments.preflight` beyond those that every engine needs.
    needs: tuple[str, ...] = ()
    #: The oldest CUDA version that the driver must support.
    cuda: str = ""
    glibc: str = ""
    disk_gib: int = 0
    warnings: tuple[Advice, ...] = ()

    @property
    def lock_path(self) -> Path:
        """Where the lock is; only for a release that has one."""
        return ENGINES_DIR / self.lock

    @property
    def digest(self) -> str:
        """Of all that will be installed."""
        if self.lock:
            return hashlib.sha256(self.lock_path.read_bytes()).hexdigest()
        wanted = "\n".join(self.requirements).encode() + WORKER_REQUIREMENTS.read_bytes()
        return hashlib.sha256(wanted).hexdigest()

    @property
    def from_own_index(self) -> set[str]:
        return {name for names in self.indexes.values() for name in names}


@dataclass(frozen=True)
class EngineDeclaration:
    """One engine. `library` is what is imported, `distribution` the package that brings it."""

    engine: str
    summary: str
    device: str
    library: str
    distribution: str
    default_version: str
    releases: dict[str, Release]

    def release(self, version: str | None) -> Release:
        """The default one if None. Raises `UserError` for one that is not declared."""
        version = version or self.default_version
        if version not in self.releases:
            known = ", ".join(f"`{name}`" for name in self.releases)
            raise UserError(
                f"there is no `{self.engine}` {version} in deploy/engines/{self.engine}.json",
                f"it has {known}; to add one, declare it there and run `scripts/lock`",
            )
        return self.releases[version]


def load_engines(directory: Path = ENGINES_DIR) -> dict[str, EngineDeclaration]:
    """All declarations by the engine's name."""
    engines = map(_read, sorted(directory.glob("*.json")))
    return {engine.engine: engine for engine in engines}


def find_engine(name: str) -> EngineDeclaration:
    """Raises `UserError` for an engine that needs no environment, or does not exist."""
    engines = load_engines()
    if name not in engines:
        known = ", ".join(f"`{engine}`" for engine in engines)
        raise UserError(f"no environment can be set up for the engine `{name}`", f"known: {known}")
    return engines[name]


def _read(path: Path) -> EngineDeclaration:
    data = json.loads(path.read_text())
    releases = {version: _release(version, each) for version, each in data.pop("versions").items()}
    return EngineDeclaration(**data, releases=releases)


def _release(version: str, data: dict[str, Any]) -> Release:
    lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
    indexes = {index: tuple(names) for index, names in data.get("indexes", {}).items()}
    warnings = tuple(Advice(**each) for each in data.get("warnings", ()))
    fields = {**data, **lists, "version": version, "indexes": indexes, "warnings": warnings}
    return Release(**fields)
