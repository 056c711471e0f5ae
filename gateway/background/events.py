"""The events of an answer that is kept: gathered as they come, and told again."""

from __future__ import annotations

from msgspec.structs import replace

from contract.messages import Delta, Done, Envelope, ErrorCode, Status
from contract.wire import decode_frame, encode_frame
from gateway.http.errors import ApiError
from gateway.streams.answers import AnswerSink
from gateway.streams.dialects import Timings
from gateway.streams.sse import NOTHING, EventId
from gateway.streams.writer import Writer


class GatheredEvents:
    """Gathers an answer; none of it is for a connection."""

    def __init__(self) -> None:
        self.writer = Writer()
        self._envelopes: list[Envelope] = []
        self._attempt = 0

    def begin(self, attempt: int) -> None:
        self._attempt = attempt

    def rename(self, name: str) -> None:
        """Events carry no name."""

    def delta(self, seq: int, delta: Delta) -> None:
        # The ids of tokens are for workers that go on with an answer.
        self._envelopes.append(Envelope("", self._attempt, seq, replace(delta, tokens=b"")))

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self._envelopes.append(Envelope("", self._attempt, seq, done))

    def status(self, status: Status) -> None:
        """It says nothing of the answer."""

    def fail(self, error: ApiError) -> None:
        """Do nothing: `Unattended` tells the caller."""

    def cut(self, error: ApiError) -> None:
        self.fail(error)

    def heartbeat(self) -> None:
        """Do nothing: no client listens."""

    @property
    def is_empty(self) -> bool:
        return not self._envelopes

    def encoded(self) -> bytes:
        """Return all of it, for `tell`."""
        return encode_frame(self._envelopes)


def tell(answer: bytes, sink: AnswerSink, timings: Timings, after: EventId = NOTHING) -> None:
    """Tell an answer that was kept, with its end, to one who has it up to the event `after`: it
    fails if that was of another text. Raises `UNREADABLE`."""
    begun = 0
    for envelope in decode_frame(answer):
        event, is_end = envelope.event, isinstance(envelope.event, Done)
        if after.contradicts(envelope.seq, envelope.attempt, is_end=is_end):
            sink.fail(ApiError(ErrorCode.LOST.value, "a part of the answer was lost on its way"))
            return
        if envelope.attempt != begun:
            begun = envelope.attempt
            sink.begin(begun)
        if isinstance(event, Delta):
            sink.delta(envelope.seq, event)
        elif isinstance(event, Done):
            sink.done(envelope.seq, event, timings)
