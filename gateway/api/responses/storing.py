"""Answers that are stored before their client is told of their end, so that whoever is told can ask
for them, or go on after them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from contract.messages import Delta, Done
from gateway.api.responses.output import Output
from gateway.api.responses.wire import ResponseShape, ResponseStream, ResponseWhole
from gateway.background.events import GatheredEvents
from gateway.http.errors import ApiError
from gateway.streams.answers import StreamAnswer, Timings, WholeAnswer
from gateway.streams.writer import SlowClient

log = logging.getLogger(__name__)
#: Stores an answer, as `GatheredEvents` encodes it. Raises `ApiError` if it cannot be stored.
Store = Callable[[bytes], Awaitable[None]]
_running: Final[set[asyncio.Task[None]]] = set()


class _Storing:
    """One answer that is gathered; `store` is called at its end."""

    def __init__(self, shape: ResponseShape, store: Store) -> None:
        self.events = GatheredEvents()
        self._shape = shape
        self._store = store

    def end(self, then: Callable[[], None]) -> None:
        """Store the answer, and then tell its client. One that cannot be stored says so."""
        task = asyncio.create_task(self._end(then))
        _running.add(task)
        task.add_done_callback(_running.discard)

    async def _end(self, then: Callable[[], None]) -> None:
        try:
            await self._store(self.events.encoded())
        except ApiError as error:
            log.warning("%s is not stored: %s", self._shape.begun["id"], error)
            self._shape.begun["store"] = False
        then()


class StoredStream(StreamAnswer):
    """A stream whose answer is stored before its last event is sent."""

    def __init__(
        self,
        dialect: ResponseStream,
        request_id: str,
        after: int,
        shape: ResponseShape,
        store: Store,
    ) -> None:
        super().__init__(dialect, request_id, after)
        self._storing = _Storing(shape, store)

    def begin(self, attempt: int) -> None:
        super().begin(attempt)
        self._storing.events.begin(attempt)

    def delta(self, seq: int, delta: Delta) -> None:
        self._storing.events.delta(seq, delta)
        super().delta(seq, delta)

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self._storing.events.done(seq, done, timings)

        def tell() -> None:
            super(StoredStream, self).done(seq, done, timings)
            _flush(self)

        self._storing.end(tell)


class StoredWhole(WholeAnswer[Output]):
    """A whole answer that is stored before it is sent."""

    def __init__(
        self, dialect: ResponseWhole, request_id: str, shape: ResponseShape, store: Store
    ) -> None:
        super().__init__(dialect, request_id)
        self._storing = _Storing(shape, store)

    def begin(self, attempt: int) -> None:
        super().begin(attempt)
        self._storing.events.begin(attempt)

    def delta(self, seq: int, delta: Delta) -> None:
        self._storing.events.delta(seq, delta)
        super().delta(seq, delta)

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self._storing.events.done(seq, done, timings)

        def tell() -> None:
            super(StoredWhole, self).done(seq, done, timings)
            _flush(self)

        self._storing.end(tell)


def _flush(answer: StoredStream | StoredWhole) -> None:
    """Send what was written; the reply that would send it has ended."""
    try:
        answer.writer.flush()
    except SlowClient:
        answer.cut(ApiError("slow_client", "the answer was read too slowly"))
        answer.writer.flush()
