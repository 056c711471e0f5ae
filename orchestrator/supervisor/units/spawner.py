"""The beginning of each child: spawned for a unit, or adopted from a former supervisor."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from functools import partial

from contract.paths import log_path
from orchestrator.gpu.allocator import Allocation, GpuAllocator
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.units.exits import Exited
from orchestrator.supervisor.units.launch import Launcher
from orchestrator.supervisor.units.record import UnitRecord
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import adopt, open_log, spawn
from orchestrator.system.reaper import Reaper

log = logging.getLogger(__name__)


class Spawner:
    """`on_exit` is called from the event loop when a child has ended."""

    def __init__(
        self,
        launcher: Launcher,
        allocator: GpuAllocator,
        reaper: Reaper,
        on_exit: Callable[[Exited], None],
    ) -> None:
        self._launcher = launcher
        self._allocator = allocator
        self._reaper = reaper
        self._on_exit = on_exit

    def spawn(self, unit: Unit) -> None:
        """Start a unit's process. Raises `UserError` and `OSError`."""
        name = f"{unit.slot}-{secrets.token_hex(3)}"
        path = log_path(unit.slot)
        spec = unit.spec
        nothing = Allocation({}, {})
        place = self._allocator.start(spec) if isinstance(spec, ReplicaSpec) else nothing
        command = self._launcher.command(spec, name, place)
        log_start = open_log(path, self._launcher.log_bytes)
        process = spawn(command, path, self._reaper, unit.orphans)
        unit.started(process, name, log_start)
        process.watch(partial(self._on_exit, Exited(unit, process)))
        log.info("%s starts as %s, pid %d", unit.slot, name, process.pid)

    def adopt(self, unit: Unit, record: UnitRecord, now: float) -> bool:
        """Go on with the process of a former supervisor. Returns whether it still runs."""
        process = adopt(record.identity, record.started_at) if record.identity else None
        record.restore(unit)
        if process is None:
            return False
        record.adopt(unit, process, now)
        process.watch(partial(self._on_exit, Exited(unit, process)))
        log.info("%s goes on, pid %d", unit.slot, process.pid)
        return True
