"""Writes down what the supervisor knows: for `status`, and for the next supervisor."""

from __future__ import annotations

import logging
import time
from typing import Final

import msgspec

from contract.supervision.status import status_path
from orchestrator.supervisor.file_watch import FileWatch
from orchestrator.supervisor.reporting.history_writer import HistoryWriter
from orchestrator.supervisor.reporting.report import Memory, Report
from orchestrator.supervisor.reporting.run_file import Run, remove_run, write_run
from orchestrator.supervisor.units.record import UnitRecord
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.files import write_atomically
from orchestrator.system.process import Identity
from orchestrator.system.version import version

log = logging.getLogger(__name__)
_EVERY_S: Final = 1.0


class Publisher:
    """Keeps the run file exact and the status file fresh."""

    def __init__(self, identity: Identity) -> None:
        self.report = Report(identity)
        self._identity = identity
        self._written_at = 0.0
        self._run: Run | None = None
        self._file = FileWatch()
        self._history = HistoryWriter()

    @property
    def next_at(self) -> float:
        """When the status is to be written again, on the monotonic clock."""
        return self._written_at + _EVERY_S

    def publish(
        self,
        units: dict[str, Unit],
        *,
        redis_url: str | None,
        variables: dict[str, str],
        is_stopping: bool,
        has_changed: bool,
        pins: dict[str, bool],
        memory: Memory,
    ) -> None:
        """Write what is due. A full disk is logged, and no reason to stop."""
        run = Run(
            supervisor=self._identity,
            redis_url=redis_url,
            variables=variables,
            units=[UnitRecord.of(unit) for unit in units.values()],
            is_stopping=is_stopping,
            pins=pins,
            version=version(),
        )
        is_new_run = run != self._run
        is_due = has_changed or is_new_run or time.monotonic() >= self.next_at
        try:
            if is_new_run and units:
                write_run(run)
                self._run = run
            if is_due:
                self._write_status(units, run, memory)
        except OSError as error:
            log.error("cannot publish the state: %s", error)
        if is_due:
            self._written_at = time.monotonic()

    def _write_status(self, units: dict[str, Unit], run: Run, memory: Memory) -> None:
        """Raises `OSError`."""
        desired = [unit.spec for unit in units.values() if unit.is_desired]
        self.report.config = self._file.look(desired, run.redis_url, run.variables)
        self.report.routes = self._file.routes
        is_external = run.redis_url is not None
        status = self.report.status(units, memory, external_redis=is_external)
        # Once a second, on the loop that everything waits for: it is not worth the disk's time, as
        # it is over with this supervisor.
        write_atomically(status_path(), msgspec.json.encode(status), is_synced=False)
        self._history.note(status)

    def forget_run(self) -> None:
        """Have the run file written with the next publication, though nothing in it changes."""
        self._run = None

    def withdraw(self) -> None:
        """Remove both files: nothing runs any more."""
        status_path().unlink(missing_ok=True)
        remove_run()
