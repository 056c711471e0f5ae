"""The worker's heartbeat, from a thread of its own: a loop that loads a model, or is busy
with a long step, must not look dead. A loop that stands still for long must."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.bus.client import connect
from contract.bus.heartbeats import BEAT_EVERY_S, Heartbeats
from contract.messages import Heartbeat, State

log = logging.getLogger(__name__)
#: A ready worker whose event loop has not turned for this long is taken for hung.
HUNG_AFTER_S: Final = 15.0


class Pulse:
    """Beats until stopped. `lapsed` is called in the worker's loop when the lease had ended
    meanwhile, so that other workers may have taken its jobs over."""

    def __init__(
        self, redis_url: str, heartbeat: Callable[[], Heartbeat], lapsed: Callable[[], None]
    ) -> None:
        self._redis_url = redis_url
        self._heartbeat = heartbeat
        self._lapsed = lapsed
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def beat_now(self) -> None:
        """Send the next heartbeat at once: something changed that others wait for."""
        self._wake.set()

    def turned(self) -> None:
        """The worker's loop is alive; to be called from it every second or so."""
        self._turned = time.monotonic()

    async def stop(self) -> None:
        """Stop beating and end the lease."""
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        asyncio.run(self._beat_until_stopped())

    async def _beat_until_stopped(self) -> None:
        db = connect(self._redis_url, connections=1)
        first, unsure = True, False
        while not self._stopping:
            try:
                lapsed = await self._beat(db)
            except RedisError as error:
                # Its answer may have been that the lease had ended; the next one will not say so.
                log.warning("no heartbeat: %s", error)
                unsure = True
            else:
                if (lapsed or unsure) and not first:
                    self._loop.call_soon_threadsafe(self._lapsed)
                first = unsure = False
            await asyncio.to_thread(self._wake.wait, BEAT_EVERY_S)
            self._wake.clear()
        await self._leave(db)
        await db.aclose()

    async def _beat(self, db: Redis) -> bool:
        heartbeat = self._heartbeat()
        stands_still = time.monotonic() - self._turned > HUNG_AFTER_S
        if heartbeat.state in (State.READY, State.STOPPING) and stands_still:
            log.error("the event loop stands still; the lease is left to end")
            return False
        heartbeats = Heartbeats(db, heartbeat.model)
        ready = heartbeat.state is State.READY
        return await heartbeats.beat(heartbeat.name, heartbeat, ready=ready)

    async def _leave(self, db: Redis) -> None:
        heartbeat = self._heartbeat()
        try:
            await Heartbeats(db, heartbeat.model).leave(heartbeat.name)
        except RedisError as error:
            log.warning("the lease is left to end: %s", error)
