"""Whether a client waits for a job: the gateway process that it came from lives, or may come back,
or the answer is kept for a repeated request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from contract.bus.claims import Attempt
from contract.bus.client import RedisClient
from contract.bus.heartbeats import BEAT_EVERY_S, GATEWAYS, Heartbeats
from contract.bus.replies import KEEP_MS, entry_order, reply_key

#: A process that was never seen here may not have said yet that it is there; one whose lease was
#: lost with all of Redis' data says so again within this time.
_SURELY_GONE_S: Final = BEAT_EVERY_S + 1.0
#: No job waits for longer in a queue.
_REMEMBERED_MS: Final = 3_600_000


class Audience:
    """The gateway processes that a worker knows, by the keys of their reply streams."""

    def __init__(self, db: RedisClient, grace_s: float) -> None:
        self._heartbeats = Heartbeats(db, GATEWAYS)
        #: How long a process that is only silent is waited for.
        self._grace_s = grace_s
        self._known: set[str] = set()
        #: Those that have jobs here and do not beat, each with the time since when.
        self._missing: dict[str, float] = {}
        #: Those that left, or are known to be dead, and when that was noticed, by Redis' clock.
        self._departed: dict[str, int] = {}

    async def look(self, replies: Iterable[str]) -> None:
        """See which processes live, of those that have jobs here. Raises `RedisError`."""
        seen = await self._heartbeats.look()
        alive, known = ({reply_key(name) for name in names} for names in (seen.alive, seen.known))
        now, since = time.monotonic(), self._missing
        self._missing = {reply: since.get(reply, now) for reply in set(replies) - alive}
        unheard_of = {
            reply
            for reply, missing_since in self._missing.items()
            if reply not in known and now - missing_since > _SURELY_GONE_S
        }
        departed = dict.fromkeys((self._known - known) | unheard_of, seen.now_ms)
        self._departed = {
            reply: noticed_ms
            for reply, noticed_ms in (self._departed | departed).items()
            if reply not in alive and seen.now_ms - noticed_ms < _REMEMBERED_MS
        }
        self._known = known

    def is_gone(self, attempt: Attempt) -> bool:
        """Return whether a job need not be run any more."""
        now = time.monotonic()
        missing_s = now - self._missing.get(attempt.reply, now)
        if attempt.job.resumable:
            return missing_s > KEEP_MS / 1000
        return self._departed_after(attempt) or missing_s > self._grace_s

    def _departed_after(self, attempt: Attempt) -> bool:
        """Whether the process was seen to be gone since it put this job. One that puts jobs lives,
        though its lease is gone: all of Redis' data was lost, and it has not beaten since."""
        put_ms, _ = entry_order(attempt.entry)
        return put_ms < self._departed.get(attempt.reply, 0)
