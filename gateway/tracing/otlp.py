"""Spans in OTLP: the protocol buffers of `ExportTraceServiceRequest`, by their field numbers.

The format is stable since OTLP 1.0, and this is all that a sender needs of it. The tests read it
with OpenTelemetry's own classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.tracing.span import AttributeValue, Span, SpanContext

#: Of `Status.code`.
_ERROR: Final = 2
_VARINT, _FIXED_64, _BYTES = 0, 1, 2


class SpanSource:
    """The name and release of what made the spans, and where it runs."""

    def __init__(self, release: str, resource: Mapping[str, AttributeValue], schema: str) -> None:
        self._resource = _message(1, _attributes(1, resource))
        self._scope = _message(1, _text(1, "ew") + _text(2, release))
        self._schema = _text(3, schema)

    def request(self, spans: Iterable[Span]) -> bytes:
        """Return the request that hands spans to a collector."""
        made = b"".join(_message(2, _span(span)) for span in spans)
        scope = _message(2, self._scope + made + self._schema)
        return _message(1, self._resource + scope)


def _span(span: Span) -> bytes:
    parts = [
        _message(1, span.context.trace_id),
        _message(2, span.context.span_id),
        _text(3, span.context.state),
        _message(4, span.parent_id),
        _text(5, span.name),
        _number(6, span.kind),
        _time(7, span.start_ns),
        _time(8, span.end_ns),
        _attributes(9, span.attributes),
        *(_message(11, _time(1, at) + _text(2, name)) for name, at in span.events),
        _link(span.link) if span.link is not None else b"",
        _message(15, _number(3, _ERROR)) if span.error else b"",
    ]
    return b"".join(parts)


def _link(context: SpanContext) -> bytes:
    return _message(13, _message(1, context.trace_id) + _message(2, context.span_id))


def _attributes(field: int, attributes: Mapping[str, AttributeValue]) -> bytes:
    return b"".join(
        _message(field, _text(1, key) + _message(2, _value(value)))
        for key, value in attributes.items()
    )


def _value(value: AttributeValue) -> bytes:
    match value:
        case bool():
            return _number(2, value)
        case int():
            return _number(3, value)
        case float():
            return _tag(4, _FIXED_64) + struct.pack("<d", value)
        case str():
            return _message(1, value.encode(errors="replace"))
        case _:
            return _message(5, b"".join(_message(1, _value(each)) for each in value))


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    # Negative ones are written as 64 bits.
    rest, parts = number & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while rest > 0x7F:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


def _number(field: int, number: int) -> bytes:
    return _tag(field, _VARINT) + _varint(number)


def _time(field: int, ns: int) -> bytes:
    return _tag(field, _FIXED_64) + struct.pack("<Q", ns)


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode(errors="replace")) if text else b""
