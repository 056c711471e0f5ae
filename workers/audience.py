"""Whether a client waits for a job: the gateway process that it came from lives, or may come back,
or the answer is kept for a repeated request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from contract.bus.claims import Attempt
from contract.bus.client import RedisClient
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.replies import KEEP_MS, reply_key

#: One whose end was not seen may not have said yet that it is there.
_SURELY_GONE_S: Final = 1.0
#: No job waits for longer in a queue.
_REMEMBERED_S: Final = 3600.0


class Audience:
    """What a worker knows of gateway processes, by the keys of their reply streams."""

    def __init__(self, db: RedisClient, grace_s: float) -> None:
        self._heartbeats = Heartbeats(db, GATEWAYS)
        #: How long a process that is only silent is waited for.
        self._grace_s = grace_s
        self._known: set[str] = set()
        #: Those that have jobs here and do not beat, each with the time since when.
        self._missing: dict[str, float] = {}
        #: Those that left, or are known to be dead, and when that was noticed.
        self._departed: dict[str, float] = {}

    async def look(self, replies: Iterable[str]) -> None:
        """See which processes live, of those that have jobs here. Raises `RedisError`."""
        alive = {reply_key(name) for name in await self._heartbeats.names()}
        known = {reply_key(name) for name in await self._heartbeats.known()} | alive
        now, since = time.monotonic(), self._missing
        self._missing = {reply: since.get(reply, now) for reply in set(replies) - alive}
        unheard_of = {
            reply
            for reply, missing_since in self._missing.items()
            if reply not in known and now - missing_since > _SURELY_GONE_S
        }
        departed = dict.fromkeys((self._known - known) | unheard_of, now)
        self._departed = {
            reply: noticed
            for reply, noticed in (departed | self._departed).items()
            if reply not in alive and now - noticed < _REMEMBERED_S
        }
        self._known = known

    def is_gone(self, attempt: Attempt) -> bool:
        """Return whether a job need not be run any more."""
        now = time.monotonic()
        missing_s = now - self._missing.get(attempt.reply, now)
        if attempt.job.resumable:
            return missing_s > KEEP_MS / 1000
        return attempt.reply in self._departed or missing_s > self._grace_s
