"""The status document of a supervisor that is gone, as far as it still holds."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from contract.messages import State
from contract.process.process_table import read_entry
from contract.supervision.status import (
    GatewayStatus,
    ModelStatus,
    RedisStatus,
    RunStatus,
    WorkerStatus,
)

_Unit = TypeVar("_Unit", GatewayStatus, RedisStatus, WorkerStatus)


def is_supervised(status: RunStatus) -> bool:
    """Return whether the supervisor that wrote this still runs."""
    supervisor = status.supervisor
    if supervisor is None:
        return False
    return _is_running(supervisor.pid, supervisor.start_ticks)


def without_the_dead(status: RunStatus) -> RunStatus:
    """The same, with what has ended since marked as stopped."""
    supervisor = status.supervisor
    return replace(
        status,
        supervisor=replace(supervisor, alive=False) if supervisor else None,
        gateway=_still(status.gateway) if status.gateway else None,
        redis=_still(status.redis) if status.redis else None,
        models=[_model(model) for model in status.models],
    )


def _model(model: ModelStatus) -> ModelStatus:
    workers = [_still(worker) for worker in model.workers]
    state = model.state if any(worker.pid for worker in workers) else State.STOPPED
    return replace(model, workers=workers, state=state)


def _still(unit: _Unit) -> _Unit:
    if unit.pid is None or _is_running(unit.pid, unit.start_ticks):
        return unit
    return replace(unit, state=State.STOPPED, stage="it has ended", pid=None)


def _is_running(pid: int, start_ticks: int) -> bool:
    entry = read_entry(pid)
    return entry is not None and not entry.is_zombie and entry.start_ticks == start_ticks
