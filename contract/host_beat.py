"""A supervisor's heartbeat."""

from __future__ import annotations

import msgspec

from contract.condition import Condition


class GpuFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU, or a MIG slice of one, in bytes. `promised_bytes` are free, and reserved."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    promised_bytes: int = 0
    foreign_bytes: int = 0
    utilization_percent: int | None = None
    temperature_c: int | None = None


class WorkerMemory(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker's place on a GPU, in bytes."""

    model: str
    slot: str
    uuid: str
    reserved_bytes: int
    used_bytes: int


class HostBeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A supervisor's sign of life, with the account of its GPUs. Of the models in its care it says
    how they are, which run here or will again by themselves, and why the others have `ended`."""

    host: str
    coming: tuple[str, ...] = ()
    ended: dict[str, str] = {}
    models: dict[str, Condition] = {}
    gpus: tuple[GpuFigures, ...] = ()
    workers: tuple[WorkerMemory, ...] = ()
    #: By model, how many workers were ended because their engine stood still.
    hung: dict[str, int] = {}
