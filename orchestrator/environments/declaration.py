"""The engines that ew can set up: those of deploy/engines/*.json that have an environment."""

from __future__ import annotations

from contract.engines import EngineDeclaration, Release, declared_engines
from orchestrator.errors import UserError


def load_engines() -> dict[str, EngineDeclaration]:
    """Return all of them by the engine's name."""
    return {name: each for name, each in declared_engines().items() if each.has_environment}


def find_engine(name: str) -> EngineDeclaration:
    """Raises `UserError` for an engine that needs no environment, or does not exist."""
    engines = load_engines()
    if name not in engines:
        known = ", ".join(f"`{engine}`" for engine in engines)
        raise UserError(f"no environment can be set up for the engine `{name}`", f"known: {known}")
    return engines[name]


def find_release(engine: EngineDeclaration, version: str | None) -> Release:
    """Return a release of an engine, the default one if None. Raises `UserError` for one that is
    not declared."""
    version = version or engine.default_version
    if version not in engine.releases:
        known = ", ".join(f"`{name}`" for name in engine.releases)
        raise UserError(
            f"there is no `{engine.engine}` {version} in deploy/engines/{engine.engine}.json",
            f"it has {known}; to add one, declare it there and run `scripts/lock`",
        )
    return engine.releases[version]
