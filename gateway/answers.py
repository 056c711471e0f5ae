"""The two shapes of an answer: a stream of events, or one whole body. Both are told what
happens to their job, and write it to their client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from contract.messages import Delta, Done, Status, TokenLogprob
from gateway import sse
from gateway.errors import ApiError, answer_error
from gateway.writer import Writer

_JSON_HEADER: Final = (b"content-type", b"application/json")


class Timings(NamedTuple):
    """Milliseconds from the request's entry into the queue."""

    queue_ms: float
    first_token_ms: float
    total_ms: float


@dataclass
class Choice:
    """All that was said of one choice."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


class StreamDialect(Protocol):
    """How events look on the wire of one API."""

    openai: bool

    def opening(self) -> bytes:
        """What comes before everything else."""

    def delta(self, seq: int, delta: Delta) -> bytes: ...

    def status(self, status: Status) -> bytes: ...

    def done(self, seq: int, done: Done, timings: Timings) -> bytes: ...

    def error(self, error: ApiError) -> bytes: ...


class WholeDialect(Protocol):
    """How a complete answer looks in one API."""

    openai: bool

    def body(self, choices: list[Choice], done: Done, timings: Timings) -> bytes: ...


class Answer(Protocol):
    """An answer on its way to a client."""

    writer: Writer

    def delta(self, seq: int, delta: Delta) -> None: ...

    def status(self, status: Status) -> None: ...

    def done(self, seq: int, done: Done, timings: Timings) -> None: ...

    def fail(self, error: ApiError) -> None: ...

    def cut(self, error: ApiError) -> None:
        """Fail without waiting for the client to read what it was sent before."""

    def heartbeat(self) -> None:
        """A sign of life while there is nothing to say."""


class StreamAnswer:
    """Server-sent events. The head leaves with the first of them, so that what fails before
    has a proper HTTP status. Events up to `after` are left out: the client has them."""

    def __init__(self, dialect: StreamDialect, request_id: str, after: int = -1) -> None:
        self.writer = Writer()
        self._dialect = dialect
        self._request_id = request_id
        self._after = after

    def delta(self, seq: int, delta: Delta) -> None:
        part = self._dialect.delta(seq, delta)
        if seq > self._after:
            if not self.writer.opened:
                self._open()
            self.writer.write(part)

    def status(self, status: Status) -> None:
        self._open()
        self.writer.write(self._dialect.status(status))

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self._open()
        self.writer.write(self._dialect.done(seq, done, timings))
        self.writer.close()

    def fail(self, error: ApiError) -> None:
        if self.writer.opened:
            self.writer.write(self._dialect.error(error))
            self.writer.close()
        else:
            write_error(self.writer, error, self._request_id, openai=self._dialect.openai)

    def cut(self, error: ApiError) -> None:
        self.writer.cut(self._dialect.error(error))

    def heartbeat(self) -> None:
        self._open()
        if not self.writer.is_blocked:
            self.writer.write(sse.HEARTBEAT)

    def _open(self) -> None:
        if not self.writer.opened:
            self.writer.open(200, sse.HEADERS)
            if self._after < 0:
                self.writer.write(self._dialect.opening())


class WholeAnswer:
    """One JSON body, once everything is there."""

    def __init__(self, dialect: WholeDialect, request_id: str, choices: int = 1) -> None:
        self.writer = Writer()
        self._dialect = dialect
        self._request_id = request_id
        self._choices = [Choice() for _ in range(choices)]

    def delta(self, seq: int, delta: Delta) -> None:
        choice = self._choices[delta.index]
        choice.texts.append(delta.text)
        if delta.logprobs:
            choice.logprobs.extend(delta.logprobs)

    def status(self, status: Status) -> None:
        """A whole answer has no room for it."""

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        body = self._dialect.body(self._choices, done, timings)
        self.writer.open(200, [_JSON_HEADER, (b"content-length", b"%d" % len(body))])
        self.writer.write(body)
        self.writer.close()

    def fail(self, error: ApiError) -> None:
        write_error(self.writer, error, self._request_id, openai=self._dialect.openai)

    def cut(self, error: ApiError) -> None:
        self.fail(error)

    def heartbeat(self) -> None:
        """A whole answer has no room for it."""


def write_error(writer: Writer, error: ApiError, request_id: str, *, openai: bool) -> None:
    """An error as the whole answer."""
    answer = answer_error(error, request_id, openai=openai)
    writer.open(answer.status, answer.headers)
    writer.write(answer.body)
    writer.close()
