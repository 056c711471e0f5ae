"""Whose memory it is: each process on a GPU belongs to a worker of ours, or is a stranger's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec
import psutil

from orchestrator.gpu.nvml.snapshot import Gpu, Snapshot
from orchestrator.terminal.sizes import MIB, show

_LONGEST_COMMAND: Final = 60


class Foreign(msgspec.Struct, frozen=True):
    """A process on a GPU that is not ours. It is named, and never touched."""

    pid: int
    user: str
    command: str
    #: None where the driver does not say.
    used_bytes: int | None

    def __str__(self) -> str:
        who = f"{self.command} (pid {self.pid}, user {self.user})"
        return who if self.command else f"pid {self.pid}, which this system does not show"


class GpuUse(msgspec.Struct, frozen=True):
    """The memory of a GPU or a slice, and whose it is."""

    gpu: Gpu
    #: By worker slot; None where the driver lists its processes, but not their memory.
    by_worker: dict[str, int | None] = {}
    worker_pids: dict[str, tuple[int, ...]] = {}
    foreign: tuple[Foreign, ...] = ()

    @property
    def total_bytes(self) -> int:
        return self.gpu.total_mib * MIB

    @property
    def used_bytes(self) -> int:
        return self.gpu.used_mib * MIB

    @property
    def free_bytes(self) -> int:
        return self.gpu.free_mib * MIB

    @property
    def foreign_bytes(self) -> int:
        return sum(each.used_bytes or 0 for each in self.foreign)

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(process.pid for process in self.gpu.processes)


def attribute(snapshot: Snapshot, families: Mapping[str, Collection[int]]) -> dict[str, GpuUse]:
    """Return the use of each GPU by its UUID. `families` are the pids of each worker and of all
    that it started: engines hold their memory in children.

    In a container the driver's pids may be the host's: then none of them matches, and the ledger
    takes the difference to what was in use before the worker started.
    """
    owners = {pid: slot for slot, pids in families.items() for pid in pids}
    return {gpu.uuid: _use(gpu, owners) for gpu in snapshot.places}


def describe_process(pid: int) -> tuple[str, str]:
    """User and command; both empty if this system does not show the process."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            command = " ".join(process.cmdline()) or process.name()
            return process.username(), _shorten(command)
    except psutil.Error:
        return "", ""


def describe_holders(use: GpuUse, pids: Iterable[int]) -> str:
    """The processes of these pids, and what they hold."""
    held = {process.pid: process.used_mib for process in use.gpu.processes}
    names = []
    for pid in pids:
        user, command = describe_process(pid)
        used = held.get(pid)
        size = "memory" if used is None else show(used * MIB)
        names.append(f"pid {pid} ({user or 'unknown user'}, {command or 'not shown'}) has {size}")
    return "; ".join(names)


def _use(gpu: Gpu, owners: Mapping[int, str]) -> GpuUse:
    by_worker: dict[str, int | None] = {}
    pids: dict[str, tuple[int, ...]] = {}
    foreign = []
    for process in gpu.processes:
        used = None if process.used_mib is None else process.used_mib * MIB
        slot = owners.get(process.pid)
        if slot is None:
            user, command = describe_process(process.pid)
            foreign.append(Foreign(process.pid, user, command, used))
            continue
        pids[slot] = (*pids.get(slot, ()), process.pid)
        sofar = by_worker.get(slot, 0)
        by_worker[slot] = None if used is None or sofar is None else sofar + used
    return GpuUse(gpu, by_worker, pids, tuple(foreign))


def _shorten(command: str) -> str:
    return command if len(command) <= _LONGEST_COMMAND else f"{command[: _LONGEST_COMMAND - 1]}…"
