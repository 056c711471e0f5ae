"""The account of each GPU as people and programs read it, in MiB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from orchestrator.memory.attribution import GpuUse
from orchestrator.memory.reservation import Reservation, Stage, measured
from orchestrator.memory.sizes import MIB


class WorkerShare(msgspec.Struct, frozen=True):
    """A worker of ours on a GPU. It may have more than was reserved; then the estimate was
    wrong, and the next start knows better."""

    slot: str
    stage: Stage
    reserved_mib: int
    used_mib: int


class ForeignShare(msgspec.Struct, frozen=True):
    """Somebody else's process on a GPU; what is not known of it is empty or null."""

    pid: int
    user: str
    command: str
    used_mib: int | None


class GpuAccount(msgspec.Struct, frozen=True):
    """A GPU, or a MIG slice (`parent` is its GPU's UUID). `free_mib` is what the driver calls
    free, `promised_mib` the part of it that is reserved for workers which have not taken it."""

    index: int
    uuid: str
    name: str
    total_mib: int
    used_mib: int
    free_mib: int
    promised_mib: int
    utilization_percent: int | None = None
    temperature_c: int | None = None
    parent: str = ""
    problem: str = ""
    workers: tuple[WorkerShare, ...] = ()
    foreign: tuple[ForeignShare, ...] = ()


def accounts(
    uses: Mapping[str, GpuUse], reservations: Iterable[Reservation]
) -> tuple[GpuAccount, ...]:
    """One for each GPU or slice, in the driver's order."""
    held = list(reservations)
    return tuple(_account(use, held) for use in uses.values())


def _account(use: GpuUse, reservations: list[Reservation]) -> GpuAccount:
    gpu = use.gpu
    here = [each for each in reservations if gpu.uuid in each.reserved_bytes]
    return GpuAccount(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        total_mib=gpu.total_mib,
        used_mib=gpu.used_mib,
        free_mib=gpu.free_mib,
        promised_mib=sum(each.promised_bytes(gpu.uuid) for each in here) // MIB,
        utilization_percent=gpu.utilization_percent,
        temperature_c=gpu.temperature_c,
        parent=gpu.parent,
        problem=gpu.problem,
        workers=tuple(_share(each, use) for each in here),
        foreign=tuple(
            ForeignShare(
                each.pid,
                each.user,
                each.command,
                None if each.used_bytes is None else each.used_bytes // MIB,
            )
            for each in use.foreign
        ),
    )


def _share(own: Reservation, use: GpuUse) -> WorkerShare:
    return WorkerShare(
        slot=own.slot,
        stage=own.stage,
        reserved_mib=own.reserved_bytes[use.gpu.uuid] // MIB,
        used_mib=measured(own, use) // MIB,
    )
