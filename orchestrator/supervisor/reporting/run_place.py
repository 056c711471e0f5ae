"""The directory by which a supervisor is found. Whoever deletes it (a cleaner of temporary files,
`git clean`) must not leave ew out of reach, for the next start to take what runs for left over."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Final

from contract.messages import State
from contract.paths import make_run_dir, run_dir
from orchestrator.protocol.specs import VALKEY
from orchestrator.supervisor.control_server import ControlServer
from orchestrator.supervisor.reporting.publisher import Publisher
from orchestrator.supervisor.reporting.run_file import has_run_file
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.mutex import Mutex
from orchestrator.system.valkey import socket_path

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0


class RunPlace:
    """Looks after the mutex and the socket of a supervisor, its run file, and Valkey's socket."""

    def __init__(
        self, mutex: Mutex, server: ControlServer, units: Mapping[str, Unit], publisher: Publisher
    ) -> None:
        self._mutex = mutex
        self._server = server
        self._units = units
        self._publisher = publisher

    async def keep(self) -> None:
        """Make anew what was deleted, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self._look()
            except OSError as error:
                log.error("the run directory cannot be made again: %s", error)

    async def _look(self) -> None:
        if self._mutex.was_deleted:
            log.warning("%s was deleted while ew runs, and is made again", run_dir())
            make_run_dir()
            if not self._mutex.renew():
                self._give_way()
        if not self._mutex.is_held:
            # The project was moved: all is where it was moved to, and can be reached there.
            return
        if not self._server.is_reachable:
            self._server.close()
            await self._server.open()
        if not has_run_file():
            self._publisher.forget_run()
        valkey = self._units.get(VALKEY)
        if valkey is not None and valkey.state is State.READY and not socket_path().exists():
            # Connections that are open go on without it, and no new one can be made.
            log.warning("the socket of Valkey was deleted: it starts again")
            if valkey.process is not None:
                valkey.process.terminate()

    def _give_way(self) -> None:
        """Another supervisor was started meanwhile, and has ended what it took for left over."""
        log.critical("another supervisor was started meanwhile: this one leaves")
        for unit in self._units.values():
            if unit.process is not None:
                unit.process.kill()
        os._exit(1)
