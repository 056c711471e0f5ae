"""The account of each GPU as people and programs read it, in MiB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contract.bus.records.worker_ends import GpuAtEnd
from contract.host_beat import GpuFigures, HostBeat, WorkerMemory
from contract.process.host_name import host_name, installation
from contract.supervision.status import ForeignProcess, GpuStatus, GpuWorker
from orchestrator.gpu.attribution import GpuUse
from orchestrator.gpu.reservation import Reservation, measured
from orchestrator.terminal.sizes import MIB


def accounts(
    uses: Mapping[str, GpuUse], reservations: Iterable[Reservation]
) -> tuple[GpuStatus, ...]:
    """One for each GPU or slice, in the driver's order."""
    held = list(reservations)
    return tuple(_account(use, held) for use in uses.values())


def host_beat(gpus: Iterable[GpuStatus]) -> HostBeat:
    """The same, in the form that is published to Redis."""
    cards = list(gpus)
    return HostBeat(
        host=host_name(),
        installation=installation(),
        gpus=tuple(_figures(gpu) for gpu in cards),
        workers=tuple(
            WorkerMemory(
                model=share.slot.rpartition("-")[0],
                slot=share.slot,
                uuid=gpu.uuid,
                reserved_bytes=share.reserved_mib * MIB,
                used_bytes=share.used_mib * MIB,
            )
            for gpu in cards
            for share in gpu.workers
        ),
    )


def gpus_at_end(gpus: Iterable[GpuStatus], slot: str) -> tuple[GpuAtEnd, ...]:
    """Return the GPUs that a worker has a place on, in the form that is kept with its end."""
    return tuple(
        GpuAtEnd(
            index=gpu.index,
            name=gpu.name,
            total_mib=gpu.total_mib,
            used_mib=gpu.used_mib,
            reserved_mib=share.reserved_mib,
            worker_mib=share.used_mib,
            foreign_mib=gpu.foreign_mib,
        )
        for gpu in gpus
        for share in gpu.workers
        if share.slot == slot
    )


def _figures(gpu: GpuStatus) -> GpuFigures:
    return GpuFigures(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        total_bytes=gpu.total_mib * MIB,
        used_bytes=gpu.used_mib * MIB,
        promised_bytes=gpu.promised_mib * MIB,
        foreign_bytes=gpu.foreign_mib * MIB,
        utilization_percent=gpu.utilization_percent,
        temperature_c=gpu.temperature_c,
    )


def _account(use: GpuUse, reservations: list[Reservation]) -> GpuStatus:
    gpu = use.gpu
    here = [each for each in reservations if gpu.uuid in each.reserved_bytes]
    return GpuStatus(
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
            ForeignProcess(
                each.pid,
                each.user,
                each.command,
                None if each.used_bytes is None else each.used_bytes // MIB,
            )
            for each in use.foreign
        ),
    )


def _share(own: Reservation, use: GpuUse) -> GpuWorker:
    return GpuWorker(
        slot=own.slot,
        stage=own.stage,
        reserved_mib=own.reserved_bytes[use.gpu.uuid] // MIB,
        used_mib=measured(own, use) // MIB,
    )
