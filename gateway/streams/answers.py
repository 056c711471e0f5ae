"""The two shapes of an answer: a stream of events, or one whole body. Both are told what
happens to their job, and write it to their client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol

from contract.messages import Delta, Done, Status
from gateway.http.error_answers import ErrorDialect, answer_error
from gateway.http.errors import ApiError
from gateway.http.headers import Headers
from gateway.streams import sse
from gateway.streams.dialects import ChoiceType, StreamDialect, Timings, WholeDialect
from gateway.streams.writer import Writer


class AnswerSink(Protocol):
    """An answer on its way to a client."""

    writer: Writer

    def begin(self, attempt: int) -> None:
        """Begin the events of this attempt, which may be asked for again."""

    def rename(self, name: str) -> None:
        """Carry another model's name, unless a part was sent: that model does the job."""

    def delta(self, seq: int, delta: Delta) -> None: ...

    def status(self, status: Status) -> None: ...

    def done(self, seq: int, done: Done, timings: Timings) -> None: ...

    def fail(self, error: ApiError) -> None: ...

    def cut(self, error: ApiError) -> None:
        """Fail without waiting for the client to read what it was sent before."""

    def heartbeat(self) -> None:
        """A sign of life while there is nothing to say."""


class NamedAnswer:
    """An answer that carries the name of a model."""

    #: Makes the same answer under another name, if another model may do the job.
    renew: Callable[[str], AnswerSink] | None = None


class StreamAnswer(NamedAnswer):
    """Server-sent events, unless `headers` say otherwise. The head leaves with the first of them,
    so that what fails before has a proper HTTP status. Events up to `after` are left out: the
    client has them. `heartbeat` is written when nothing else is for long."""

    def __init__(
        self,
        dialect: StreamDialect,
        request_id: str,
        after: int = -1,
        *,
        heartbeat: bytes = sse.HEARTBEAT,
        headers: Headers = sse.HEADERS,
    ) -> None:
        self.writer = Writer()
        self.dialect = dialect
        self._request_id = request_id
        self._after = after
        self._heartbeat = heartbeat
        self._headers = headers

    def begin(self, attempt: int) -> None:
        self.dialect.mark = sse.attempt_mark(attempt)

    def rename(self, name: str) -> None:
        if self.renew is not None:
            self.adopt(self.renew(name))

    def adopt(self, other: AnswerSink) -> None:
        """Look as another answer does, if nothing was sent."""
        if isinstance(other, StreamAnswer) and not self.writer.opened:
            self.dialect = other.dialect

    def delta(self, seq: int, delta: Delta) -> None:
        part = self.dialect.delta(seq, delta)
        if seq > self._after:
            if not self.writer.opened:
                self.open()
            self.writer.write(part)

    def status(self, status: Status) -> None:
        self.open()
        self.writer.write(self._beside_events(self.dialect.status(status)))

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self.open()
        self.writer.write(self.dialect.done(seq, done, timings))
        self.writer.close()

    def fail(self, error: ApiError) -> None:
        if self.writer.opened:
            self.writer.write(self.dialect.error(error))
            self.writer.close()
        else:
            write_error(self.writer, error, self._request_id, self.dialect.errors)

    def cut(self, error: ApiError) -> None:
        self.writer.cut(self.dialect.error(error))

    def heartbeat(self) -> None:
        self.open()
        if not self.writer.is_blocked:
            self.writer.write(self._beside_events(self._heartbeat))

    def _beside_events(self, part: bytes) -> bytes:
        """A comment among events with ids has no empty line after it. By the standard that line
        does nothing; clients such as openai's take it for an event without data, once they have
        seen an id, and fail."""
        is_comment = part.startswith(b":")
        return part.removesuffix(b"\n") if is_comment and self.dialect.numbered else part

    def open(self) -> None:
        """Begin, if it has not begun: from now on an error is an event."""
        if not self.writer.opened:
            self.writer.open(200, self._headers)
            if self._after < 0:
                self.writer.write(self.dialect.opening())


class WholeAnswer(NamedAnswer, Generic[ChoiceType]):
    """One JSON body, once everything is there."""

    def __init__(
        self, dialect: WholeDialect[ChoiceType], request_id: str, choices: int = 1
    ) -> None:
        self.writer = Writer()
        self.dialect = dialect
        self._request_id = request_id
        self._choices = [dialect.new_choice() for _ in range(choices)]
        self.content_type = b"application/json"

    def begin(self, attempt: int) -> None:
        """A whole answer has no ids."""

    def rename(self, name: str) -> None:
        if self.renew is not None:
            self.adopt(self.renew(name))

    def adopt(self, other: AnswerSink) -> None:
        """Look as another answer does."""
        if isinstance(other, WholeAnswer):
            self.dialect = other.dialect

    def delta(self, seq: int, delta: Delta) -> None:
        self._choices[delta.index].add(delta)

    def status(self, status: Status) -> None:
        """A whole answer has no room for it."""

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        body = self.dialect.body(self._choices, done, timings)
        head = [(b"content-type", self.content_type), (b"content-length", b"%d" % len(body))]
        self.writer.open(200, head)
        self.writer.write(body)
        self.writer.close()

    def fail(self, error: ApiError) -> None:
        write_error(self.writer, error, self._request_id, self.dialect.errors)

    def cut(self, error: ApiError) -> None:
        self.fail(error)

    def heartbeat(self) -> None:
        """A whole answer has no room for it."""


def write_error(writer: Writer, error: ApiError, request_id: str, dialect: ErrorDialect) -> None:
    """An error as the whole answer."""
    answer = answer_error(error, request_id, dialect)
    writer.open(answer.status, answer.headers)
    writer.write(answer.body)
    writer.close()
