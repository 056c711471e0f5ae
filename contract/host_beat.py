"""A supervisor's heartbeat."""

from __future__ import annotations

from collections.abc import Iterable

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


class Residency(msgspec.Struct, omit_defaults=True):
    """How often a model came and went since the supervisor started, and how long its last load
    took. It goes for one of three reasons: `idle`, `eviction` (to make room for another),
    `operator`."""

    loads: int = 0
    wakes: int = 0
    last_load_s: float | None = None
    #: By reason; a sleep keeps the weights in the host's memory.
    unloads: dict[str, int] = {}
    sleeps: dict[str, int] = {}

    def went(self, reason: str, *, asleep: bool) -> None:
        counts = self.sleeps if asleep else self.unloads
        counts[reason] = counts.get(reason, 0) + 1


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
    #: Tells this installation from another that has the same name of a host by mistake.
    installation: str = ""
    #: By model.
    residency: dict[str, Residency] = {}
    #: By unit, such as `gateway` or `llama-0`: how often it was started again after a death.
    restarts: dict[str, int] = {}


def has_namesake(hosts: Iterable[HostBeat], host: str, installation: str) -> bool:
    """Return whether another installation has the name of this host, by mistake."""
    names = {each.installation for each in hosts if each.host == host}
    return bool(names - {installation, ""})
