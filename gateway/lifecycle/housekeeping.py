"""Housekeeping of a gateway process at regular intervals: end what takes too long, keep silent
connections open, and tidy its reply stream."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient
from contract.bus.replies import ReplyStream
from contract.config import LimitsConfig
from contract.messages import ErrorCode, State
from gateway.http.errors import ApiError
from gateway.http.key_store import KeyStore
from gateway.jobs.models import Models
from gateway.jobs.refusals import cannot_load
from gateway.lifecycle.lost_ends import LostEnds
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.reply import Reply
from gateway.streams.reply_phase import ReplyPhase

log = logging.getLogger(__name__)
_SCAN_EVERY_S: Final = (0.25, 1.0)
#: A look at a reply takes some 5 us: so seldom, all looks together take a twentieth of the time.
_PACE_PER_REPLY_S: Final = 1e-4
#: Then answers beside those that are looked at have their turn.
_LONGEST_TURN_S: Final = 0.002
_TIDY_EVERY_S: Final = 2.0
#: By then what is known of a model is younger than a request for it.
_LOOKED_SINCE_S: Final = 3.0


def scan_pace_s(replies: int) -> float:
    """Return the time until the next look if the last was at so many replies: ten thousand whose
    model is loaded must not slow those that run."""
    shortest, longest = _SCAN_EVERY_S
    return min(longest, max(shortest, replies * _PACE_PER_REPLY_S))


class DeadlineMonitor:
    """Looks, a few times a second, for replies that something is due for; one that waits for its
    turn is left alone from one sign of life to the next."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        models: Models,
        link: Link,
        keys: KeyStore,
    ) -> None:
        self._dispatcher = dispatcher
        self._models = models
        self._link = link
        self._keys = keys
        self._known = self._facts()

    async def run(self) -> None:
        """Run until cancelled."""
        before, looked_at = time.monotonic(), 0
        while True:
            await asyncio.sleep(scan_pace_s(looked_at))
            now = time.monotonic()
            due = self._due(now)
            looked_at = len(due)
            await self._look_at_all(due, now, now - before)
            before = now

    def _due(self, now: float) -> list[Reply]:
        """Return those that time, or what is known of their model, can have changed something for;
        all, if something is new that concerns all."""
        self._keys.refresh()
        known, self._known = self._known, self._facts()
        if not self._link.is_up or known != self._known:
            return self._dispatcher.replies
        ready = self._models.ready
        return [
            reply
            for reply in self._dispatcher.replies
            if reply.look_at <= now or reply.model not in ready
        ]

    def _facts(self) -> tuple[LimitsConfig, int]:
        return self._models.limits, self._keys.reads

    async def _look_at_all(self, due: list[Reply], now: float, elapsed_s: float) -> None:
        turn_began = now
        for reply in due:
            if time.monotonic() - turn_began > _LONGEST_TURN_S:
                await asyncio.sleep(0)
                turn_began = time.monotonic()
            if not reply.ended:
                with self._dispatcher.guard(reply):
                    self._look_at(reply, now, elapsed_s)

    def _look_at(self, reply: Reply, now: float, elapsed_s: float) -> None:
        self._excuse(reply, elapsed_s)
        failure = (
            self._disown(reply)
            or reply.overdue(self._models.limits, now)
            or self._hear_of_the_model(reply, now)
        )
        if failure is not None:
            self._dispatcher.fail(reply, failure)
        else:
            reply.heartbeat_if_silent(now)
            reply.put_off(self._models.limits, now)
            self._dispatcher.flush([reply])

    def _disown(self, reply: Reply) -> ApiError | None:
        if reply.key is None or self._keys.is_live(reply.key):
            return None
        return ApiError("key_ended", "the API key was revoked, or has expired")

    def _excuse(self, reply: Reply, elapsed_s: float) -> None:
        """Don't count time in which no token could come, as its worker or Redis is replaced, or in
        which its model is loaded: it does not wait for a place then."""
        status = self._models.status(reply.model)
        is_loading = status.is_served and status.state is not State.READY
        is_away = not self._link.is_up or status.state is not State.READY
        if is_loading or (is_away and reply.phase is not ReplyPhase.QUEUE):
            reply.pause(elapsed_s)

    def _hear_of_the_model(self, reply: Reply, now: float) -> ApiError | None:
        """Tell a client that waits how its model comes along, or why it does not come."""
        status = self._models.status(reply.model)
        is_news = now - reply.began >= _LOOKED_SINCE_S
        if is_news and (why := self._models.ended(reply.model)):
            message = f"model `{reply.model}` cannot go on: {why}"
            return ApiError("model_not_started", message)
        if status.state is State.READY or status.registration is None:
            return None
        if status.registration.problem:
            return cannot_load(reply.model, status.registration.problem)
        reply.wait(status.registration.stage, status.registration.eta_s, now)
        return None


class Housekeeping:
    """Renews the reply stream of this process, and trims it."""

    def __init__(
        self,
        db: RedisClient,
        stream: ReplyStream,
        dispatcher: Dispatcher,
        link: Link,
        models: Models,
    ) -> None:
        self._db = db
        self._stream = stream
        self._dispatcher = dispatcher
        self._link = link
        self._models = models
        self._lost_ends = LostEnds(db, dispatcher, link)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self._renew()
                await self._trim()
                await self._lost_ends.look()
            except (RedisError, OSError) as error:
                self._link.failed(error)
            self._count_tokens()
            await asyncio.sleep(_TIDY_EVERY_S)

    async def _renew(self) -> None:
        vanished = self._dispatcher.last is not None and not await self._db.exists(self._stream.key)
        await self._stream.open()
        if vanished:
            log.error("the reply stream has vanished from Redis, and with it all open answers")
            self._dispatcher.fail_all(ApiError(ErrorCode.LOST.value, "the answer was lost"))

    def _count_tokens(self) -> None:
        for reply in self._dispatcher.replies:
            if reply.tokens:
                reply.count_tokens()

    async def _trim(self) -> None:
        before = self._dispatcher.needed_from(time.monotonic())
        if before is not None:
            await self._stream.trim(before)
        # One long answer needs all that came since it began.
        if await self._stream.bound(self._models.limits.max_reply_bytes):
            log.warning("the reply stream was cut: answers under way cannot be resumed any more")
