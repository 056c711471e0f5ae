"""Pre-rendered pieces of server-sent events. Text is the only thing encoded per token."""

from __future__ import annotations

from typing import Final

import orjson

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
HEARTBEAT: Final = b": heartbeat\n\n"
HEARTBEAT_EVERY_S: Final = 10.0
_LINE_SEPARATORS: Final = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def json_text(text: str) -> bytes:
    """A JSON string without anything that a reader might take for the end of a line."""
    encoded = orjson.dumps(text)
    if not text.isascii():
        for character, escaped in _LINE_SEPARATORS:
            encoded = encoded.replace(character, escaped)
    return encoded


def with_id(seq: int, event: bytes) -> bytes:
    """One event, with its place in the answer, which a client sends back as `Last-Event-ID`."""
    return b"id: %d\n%b" % (seq, event)


def event(data: bytes, *, name: str = "", seq: int | None = None) -> bytes:
    """One event; `data` is a single line."""
    head = f"id: {seq}\n" if seq is not None else ""
    if name:
        head += f"event: {name}\n"
    return b"%sdata: %s\n\n" % (head.encode(), data)
