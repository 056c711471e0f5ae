"""Which engine really runs a model, and in which environment."""

from __future__ import annotations

from typing import Final

from contract.config import ModelConfig
from contract.engines import declaration_of
from orchestrator.environments import default_env_name, resolve_engine

#: Of engines that need no other.
OWN_ENVIRONMENT: Final = ".venv"


def environment_of(model: ModelConfig, override: str | None = None) -> tuple[str, str]:
    """Return the engine that really runs a model, and the name of its environment."""
    engine = resolve_engine(model.engine)
    if not declaration_of(engine).has_environment:
        return engine, OWN_ENVIRONMENT
    return engine, override or model.env or default_env_name(engine)
