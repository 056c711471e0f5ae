"""GPUs at one moment: cards, MIG slices, and the processes on them."""

from __future__ import annotations

import msgspec


class GpuProcess(msgspec.Struct, frozen=True):
    """A process on a GPU. `used_mib` is None where the driver does not say."""

    pid: int
    used_mib: int | None
    kind: str = "compute"
    #: The MIG slice that it runs in: its GPU instance and its compute instance.
    instance: tuple[int, int] | None = None


class Gpu(msgspec.Struct, frozen=True):
    """A card, or a MIG slice of one (`parent` is then the card's UUID)."""

    index: int
    uuid: str
    name: str
    total_mib: int = 0
    #: Everything that is not free, what the driver keeps for itself included.
    used_mib: int = 0
    free_mib: int = 0
    reserved_mib: int | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    slices: tuple[Gpu, ...] = ()
    parent: str = ""
    #: Such as `9.0`; empty where it cannot be asked.
    compute_capability: str = ""
    #: It works in the host's memory, and these figures are the host's.
    is_unified: bool = False
    #: Why it cannot be used; empty if it can.
    problem: str = ""

    @property
    def places(self) -> tuple[Gpu, ...]:
        """Where workers can run: on the card, or instead on its slices."""
        return self.slices or (self,)


class Snapshot(msgspec.Struct, frozen=True):
    """All GPUs at one moment. `problem` says why they are not known, or not up to date."""

    #: Monotonic seconds.
    taken_at: float
    gpus: tuple[Gpu, ...] = ()
    driver_version: str = ""
    #: The newest version of CUDA that the driver supports, such as `12.8`.
    cuda_version: str = ""
    problem: str = ""
    #: The driver has never answered yet, and may still do so: it is not known what there is.
    is_pending: bool = False

    @property
    def places(self) -> tuple[Gpu, ...]:
        return tuple(place for gpu in self.gpus for place in gpu.places)


def restricted(snapshot: Snapshot, visible_devices: str | None) -> Snapshot:
    """The same, with the GPUs marked that CUDA_VISIBLE_DEVICES keeps from us: the user may
    have been given only some of them. None means all."""
    if visible_devices is None:
        return snapshot
    names = [name.strip() for name in visible_devices.split(",") if name.strip()]
    gpus = tuple(_restricted(gpu, names) for gpu in snapshot.gpus)
    return msgspec.structs.replace(snapshot, gpus=gpus)


def _restricted(gpu: Gpu, names: list[str]) -> Gpu:
    if any(gpu.uuid.startswith(name) or str(gpu.index) == name for name in names):
        return gpu
    slices = tuple(_restricted(each, [n for n in names if not n.isdigit()]) for each in gpu.slices)
    problem = gpu.problem or "is not among the CUDA_VISIBLE_DEVICES that ew was given"
    return msgspec.structs.replace(gpu, problem=problem, slices=slices)
