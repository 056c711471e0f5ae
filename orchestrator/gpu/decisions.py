"""The words of eviction: models that are loaded or wished for, and the decisions about them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from orchestrator.gpu.places import Demand, Refusal


class Resident(msgspec.Struct, frozen=True):
    """A model that is loaded, or being loaded (`loaded_at` is then None)."""

    model: str
    bytes_by_gpu: dict[str, int]
    loaded_at: float | None
    last_used_at: float
    load_s: float
    running: int = 0
    waiting: int = 0
    is_on_demand: bool = True
    is_pinned: bool = False
    idle_unload_s: float | None = None
    #: It has been told to go, and its memory will be free soon.
    is_leaving: bool = False

    @property
    def may_go(self) -> bool:
        return self.is_on_demand and not self.is_pinned and not self.is_leaving

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting


class Wish(msgspec.Struct, frozen=True):
    """Requests wait for a model that is not loaded, the oldest of them since then."""

    model: str
    demands: tuple[Demand, ...]
    since: float


class LoadNow(msgspec.Struct, frozen=True):
    """There is room: start it."""

    model: str


class MakeRoom(msgspec.Struct, frozen=True):
    """Unload these models for it. Those in `drained` run something: they take no more jobs, and
    go when they have finished."""

    model: str
    unloaded: tuple[str, ...]
    drained: tuple[str, ...] = ()


class Wait(msgspec.Struct, frozen=True):
    """Not now; decide again in a while."""

    model: str
    reason: str


class CannotLoad(msgspec.Struct, frozen=True):
    """It would not fit even if everything left that may."""

    model: str
    refusals: tuple[Refusal, ...]


Decision: TypeAlias = LoadNow | MakeRoom | Wait | CannotLoad
