"""Answers that are stored before their client is told of their end, so that a client that is told
can ask for them, or go on after them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from contract.messages import Delta, Done, Status
from gateway.api.responses.output import Output
from gateway.api.responses.wire import ResponseShape
from gateway.background.events import GatheredEvents
from gateway.http.errors import ApiError
from gateway.streams.answers import NamedAnswer, StreamAnswer, WholeAnswer
from gateway.streams.dialects import Timings
from gateway.streams.writer import SlowClient

log = logging.getLogger(__name__)
#: Stores an answer, as `GatheredEvents` encodes it. Raises `ApiError` if it cannot be stored.
Store = Callable[[bytes], Awaitable[None]]
_running: Final[set[asyncio.Task[None]]] = set()


class StoredAnswer(NamedAnswer):
    """An answer that is gathered beside being written, and stored before its end is sent."""

    def __init__(
        self, answer: StreamAnswer | WholeAnswer[Output], shape: ResponseShape, store: Store
    ) -> None:
        self.writer = answer.writer
        self.answer = answer
        self._events = GatheredEvents()
        self.shape = shape
        self.store = store

    def begin(self, attempt: int) -> None:
        self.answer.begin(attempt)
        self._events.begin(attempt)

    def rename(self, name: str) -> None:
        other = self.renew(name) if self.renew is not None else None
        if isinstance(other, StoredAnswer) and not self.writer.opened:
            self.answer.adopt(other.answer)
            self.shape, self.store = other.shape, other.store

    def delta(self, seq: int, delta: Delta) -> None:
        self._events.delta(seq, delta)
        self.answer.delta(seq, delta)

    def status(self, status: Status) -> None:
        self.answer.status(status)

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self._events.done(seq, done, timings)
        task = asyncio.create_task(self._end(partial(self.answer.done, seq, done, timings)))
        _running.add(task)
        task.add_done_callback(_running.discard)

    def fail(self, error: ApiError) -> None:
        self.answer.fail(error)

    def cut(self, error: ApiError) -> None:
        self.answer.cut(error)

    def heartbeat(self) -> None:
        self.answer.heartbeat()

    async def _end(self, tell: Callable[[], None]) -> None:
        """Store the answer, and then tell its client. One that cannot be stored says so."""
        try:
            await self.store(self._events.encoded())
        except ApiError as error:
            log.warning("%s is not stored: %s", self.shape.begun["id"], error)
            self.shape.begun["store"] = False
        tell()
        # The reply that would send it has ended.
        try:
            self.writer.flush()
        except SlowClient:
            self.cut(ApiError("slow_client", "the answer was read too slowly"))
            self.writer.flush()
