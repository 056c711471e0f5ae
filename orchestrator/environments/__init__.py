"""Engine environments: what can be set up, what is there, and the making of it.

A worker runs in one of these; ew's own processes run in .venv. A command that only looks
imports little: the modules that build are imported by the call that builds.
"""

from __future__ import annotations

from contract.engines import aliases, members_of
from orchestrator.environments.environment import (
    Environment,
    default_env_name,
    find_environment,
    list_environments,
)

__all__ = [
    "Environment",
    "default_env_name",
    "find_environment",
    "list_environments",
    "resolve_engine",
]


def resolve_engine(name: str) -> str:
    """Return the engine that is meant: `vllm` is `cuda-vllm` where an NVIDIA GPU is seen, else
    `cpu-vllm`. Blocks for milliseconds; for seconds if the driver hangs."""
    if name not in aliases():
        return name
    from orchestrator.gpu.nvml.client import FIRST_ANSWER_S, Nvml

    has_gpu = bool(Nvml().snapshot(FIRST_ANSWER_S).gpus)
    members = members_of(name)
    return next((each.engine for each in members if has_gpu == (each.device == "cuda")), name)
