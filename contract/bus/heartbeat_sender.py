"""Heartbeats from a thread of their own: an event loop that loads a model, or has much to do, must
not look dead. One that stands still for long must."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import Final, NamedTuple

import msgspec
from redis.exceptions import RedisError

from contract.bus.client import RedisClient, connect
from contract.bus.heartbeats import BEAT_EVERY_S, Heartbeats

log = logging.getLogger(__name__)
#: An event loop that has not turned for this long is taken for hung.
HUNG_AFTER_S: Final = 15.0


class Sign(NamedTuple):
    """A heartbeat, among those of `tag`. `ready`: its sender accepts work."""

    tag: str
    name: str
    beat: msgspec.Struct
    ready: bool


class HeartbeatSender(ABC):
    """Beats until stopped. `sign`, and all that it calls, runs in the thread, and only reads."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Event()
        self._ended = asyncio.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._looks_since_turn = 0
        self._thread = threading.Thread(target=self._run, name="heartbeat_sender", daemon=True)

    @abstractmethod
    def sign(self) -> Sign:
        """Return what there is to say now."""

    def is_due(self) -> bool:
        """Return whether to say it, or to let the lease end."""
        return True

    def lapsed(self) -> None:
        """Called in the event loop when the lease had ended meanwhile, so that others may have
        taken over what was held."""
        log.debug("the lease had lapsed")

    def start(self) -> None:
        self._thread.start()

    def beat_now(self) -> None:
        """Send the next heartbeat at once: something changed that others wait for."""
        self._wake.set()

    def turned(self) -> None:
        """The event loop is alive; to be called from it every second or so."""
        self._turned = time.monotonic()
        self._looks_since_turn = 0

    @property
    def stands_still_s(self) -> float:
        """For how long the event loop has not turned while this thread has. (A process that was
        stopped as a whole has a loop that is as good as the thread.)"""
        return min(time.monotonic() - self._turned, self._looks_since_turn * BEAT_EVERY_S)

    async def stop(self) -> None:
        """Stop beating and end the lease."""
        self._stopping = True
        self._wake.set()
        await self._ended.wait()

    def _run(self) -> None:
        try:
            asyncio.run(self._beat_until_stopped())
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                self._loop.call_soon_threadsafe(self._ended.set)

    async def _beat_until_stopped(self) -> None:
        db = connect(self._redis_url, connections=1)
        first, unsure = True, False
        while not self._stopping:
            try:
                lapsed = self.is_due() and await self._beat(db)
            except (RedisError, OSError) as error:
                # Its answer may have been that the lease had ended; the next one will not say so.
                log.warning("no heartbeat: %s", error)
                unsure = True
            else:
                if (lapsed or unsure) and not first:
                    self._loop.call_soon_threadsafe(self.lapsed)
                first = unsure = False
            self._looks_since_turn += 1
            await asyncio.to_thread(self._wake.wait, BEAT_EVERY_S)
            self._wake.clear()
        await self._leave(db)
        await db.aclose()

    async def _beat(self, db: RedisClient) -> bool:
        sign = self.sign()
        return await Heartbeats(db, sign.tag).beat(sign.name, sign.beat, ready=sign.ready)

    async def _leave(self, db: RedisClient) -> None:
        sign = self.sign()
        try:
            await Heartbeats(db, sign.tag).leave(sign.name)
        except (RedisError, OSError) as error:
            log.warning("the lease is left to end: %s", error)
