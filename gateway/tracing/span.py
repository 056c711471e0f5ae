"""Spans as OpenTelemetry has them, and the fields that carry their ids (W3C Trace Context)."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from contract.asked import TraceContext

AttributeValue = str | bool | int | float | Sequence[str]
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
#: Longer ones need not be handed on (3.3.1.5 there).
_LONGEST_STATE: Final = 512
_SAMPLED: Final = 1


class SpanKind(IntEnum):
    """A span's role in its trace, as OTLP numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class SpanContext(NamedTuple):
    """The ids by which others continue a span; whether the spans of its trace are kept."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool
    state: str = ""

    def carried(self) -> TraceContext:
        """Return it as a job carries it."""
        flags = f"{_SAMPLED * self.is_sampled:02x}"
        ids = f"{self.trace_id.hex()}-{self.span_id.hex()}"
        return TraceContext(f"00-{ids}-{flags}", self.state)


def read_context(traceparent: str, tracestate: str) -> SpanContext | None:
    """Return the span that header fields name; None if they do not name one."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    # The first version has no fifth part.
    if found is None or (found[4] and traceparent.startswith("00")):
        return None
    state = tracestate if len(tracestate) <= _LONGEST_STATE and tracestate.isascii() else ""
    is_sampled = bool(int(found[3], 16) & _SAMPLED)
    return SpanContext(bytes.fromhex(found[1]), bytes.fromhex(found[2]), is_sampled, state)


def context_in(headers: Iterable[tuple[bytes, bytes]]) -> SpanContext | None:
    """Return the span that a request's header fields name."""
    parents = [value.decode("latin-1") for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return None
    states = [value.decode("latin-1") for name, value in headers if name == b"tracestate"]
    return read_context(parents[0], ",".join(filter(None, states)))


class Span:
    """One step of a trace. Times are Unix nanoseconds."""

    __slots__ = (
        "attributes",
        "context",
        "end_ns",
        "error",
        "events",
        "kind",
        "link",
        "name",
        "parent_id",
        "start_ns",
    )

    def __init__(self, name: str, context: SpanContext, parent_id: bytes, start_ns: int) -> None:
        self.name = name
        self.context = context
        self.parent_id = parent_id
        self.kind = SpanKind.INTERNAL
        self.start_ns = self.end_ns = start_ns
        self.attributes: dict[str, AttributeValue] = {}
        self.events: list[tuple[str, int]] = []
        self.link: SpanContext | None = None
        self.error = False

    def fail(self, code: str) -> None:
        """Say that it ended with an error, by its code: messages may quote a request."""
        self.attributes["error.type"] = code
        self.error = True


class SpanMaker:
    """Begins spans at moments of the monotonic clock, by which all else is timed. All of one maker
    are off the wall clock by the same, whatever becomes of that meanwhile. `ended` takes those that
    are to be kept; `samples` decides of a new trace by its id."""

    def __init__(self, ended: Callable[[Span], None], samples: Callable[[bytes], bool]) -> None:
        self._ended = ended
        self._samples = samples
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    def begin(
        self,
        name: str,
        at: float,
        parent: Span | SpanContext | None,
        attributes: Mapping[str, AttributeValue],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        """Begin a span. Without a parent it is the first of its trace."""
        above = parent.context if isinstance(parent, Span) else parent
        span_id = secrets.token_bytes(8)
        if above is None:
            trace_id = secrets.token_bytes(16)
            context, parent_id = SpanContext(trace_id, span_id, self._samples(trace_id)), b""
        else:
            context, parent_id = above._replace(span_id=span_id), above.span_id
        span = Span(name, context, parent_id, self.ns(at))
        span.kind = kind
        span.attributes.update(attributes)
        return span

    def note(
        self,
        name: str,
        begin: float,
        end: float,
        parent: Span,
    ) -> None:
        """Make a span of something that is over."""
        self.end(self.begin(name, begin, parent, {}), max(begin, end))

    def end(self, span: Span, at: float) -> None:
        """End a span. It does not change any more."""
        span.end_ns = self.ns(at)
        if span.context.is_sampled:
            self._ended(span)

    def ns(self, at: float) -> int:
        """Return a moment of the monotonic clock as Unix time in nanoseconds."""
        return self._epoch_ns + int(at * 1_000_000_000)
