"""The heartbeat of a gateway process, with all that it has counted. It tells a process that is
busy from one that is dead; one whose event loop stands still for long ends itself, because several
processes share a port and no other process could tell which of them it is."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
from collections.abc import Callable
from typing import Final

import msgspec

from contract.bus import heartbeat_sender as heartbeat_sender
from contract.bus.heartbeat_sender import Sign
from contract.bus.heartbeats import GATEWAYS
from contract.gateway_beat import GatewayBeat
from contract.process.host_name import host_name

log = logging.getLogger(__name__)
_TURN_EVERY_S: Final = 0.5


class GatewayHeartbeat(heartbeat_sender.HeartbeatSender):
    """Beats until stopped. `beat` is filled in; `is_ready` says whether requests are taken."""

    def __init__(
        self, redis_url: str, beat: Callable[[], GatewayBeat], is_ready: Callable[[], bool]
    ) -> None:
        super().__init__(redis_url)
        self._beat_of_now = beat
        self._is_ready = is_ready
        self._count = 0
        #: The last heartbeat.
        self.last = beat()

    async def keep_turning(self) -> None:
        """Show that the event loop does, until cancelled."""
        while True:
            self.turned()
            await asyncio.sleep(_TURN_EVERY_S)

    def sign(self) -> Sign:
        self._count += 1
        self.last = msgspec.structs.replace(
            self._beat_of_now(),
            host=host_name(),
            pid=os.getpid(),
            parent_pid=os.getppid(),
            count=self._count,
        )
        return Sign(GATEWAYS, self.last.name, self.last, self._is_ready())

    def is_due(self) -> bool:
        if self.stands_still_s > heartbeat_sender.HUNG_AFTER_S:
            log.critical("leaving: the event loop has stood still for %.0f s", self.stands_still_s)
            faulthandler.dump_traceback(all_threads=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return True
