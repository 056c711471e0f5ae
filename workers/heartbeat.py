"""The worker's heartbeat. A ready worker whose event loop stands still loses its lease, and with
it its jobs; one that loads a model may stand still."""

from __future__ import annotations

import logging
from collections.abc import Callable

from contract.bus import heartbeat_sender as heartbeat_sender
from contract.bus.heartbeat_sender import Sign
from contract.messages import Heartbeat, State

log = logging.getLogger(__name__)


class WorkerHeartbeat(heartbeat_sender.HeartbeatSender):
    """Beats until stopped. `lapsed` is called in the worker's loop when the lease had ended
    meanwhile, so that other workers may have taken its jobs over."""

    def __init__(
        self, redis_url: str, heartbeat: Callable[[], Heartbeat], lapsed: Callable[[], None]
    ) -> None:
        super().__init__(redis_url)
        self._heartbeat = heartbeat
        self._lapsed = lapsed

    def sign(self) -> Sign:
        beat = self._heartbeat()
        return Sign(beat.model, beat.name, beat, ready=beat.state is State.READY)

    def is_due(self) -> bool:
        serves = self._heartbeat().state in (State.READY, State.STOPPING)
        if serves and self.stands_still_s > heartbeat_sender.HUNG_AFTER_S:
            log.error("the event loop stands still; the lease is left to end")
            return False
        return True

    def lapsed(self) -> None:
        self._lapsed()
