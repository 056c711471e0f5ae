"""An engine's state as it reports it: how busy it is, and that it cannot go on."""

from __future__ import annotations

from typing import NamedTuple


class EngineLoad(NamedTuple):
    """How busy the engine is; `kv_cache_usage` from 0 to 1."""

    waiting: int = 0
    kv_cache_usage: float | None = None
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0


class EngineDied(Exception):
    """The engine cannot go on; the worker must exit, and its jobs be taken over."""


class EngineHung(EngineDied):
    """The engine says nothing any more. It may not even end when it is told to."""
