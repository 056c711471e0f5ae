"""The engines, as deploy/engines/*.json declares them: one file an engine, one typed declaration.

Differences between engines are declared there and nowhere else: code asks the declaration, and
never compares an engine's name. It is read by every process, workers in engine environments
included.
"""

from __future__ import annotations

from contract.engines.declaration import (
    ArgumentSource,
    Batch,
    EngineDeclaration,
    GpuMemory,
    MemoryArguments,
    Proof,
    aliases,
    declaration_of,
    declared_engines,
    engine_names,
    members_of,
)
from contract.engines.release import ENGINES_DIR, WORKER_REQUIREMENTS, Advice, Release

__all__ = [
    "ENGINES_DIR",
    "WORKER_REQUIREMENTS",
    "Advice",
    "ArgumentSource",
    "Batch",
    "EngineDeclaration",
    "GpuMemory",
    "MemoryArguments",
    "Proof",
    "Release",
    "aliases",
    "declaration_of",
    "declared_engines",
    "engine_names",
    "members_of",
]
