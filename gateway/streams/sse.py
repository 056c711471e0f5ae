"""Pre-rendered pieces of server-sent events. Text is the only thing encoded per token."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

from contract.messages import Status

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
HEARTBEAT: Final = b": heartbeat\n\n"
HEARTBEAT_EVERY_S: Final = 10.0
_EVENT_ID: Final = re.compile(rb"[0-9]{1,12}(-[0-9a-f]{1,16})?")
_LINE_SEPARATORS: Final = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def json_text(text: str) -> bytes:
    """A JSON string without anything that a reader might take for the end of a line."""
    encoded = orjson.dumps(text)
    return encoded if text.isascii() else one_line(encoded)


def one_line(encoded: bytes) -> bytes:
    """Return JSON of one line without what only Unicode takes for the end of one. Readers of lines
    do so, too: httpx's `iter_lines`, and with it Ollama's client."""
    if encoded.isascii():
        return encoded
    for character, escaped in _LINE_SEPARATORS:
        encoded = encoded.replace(character, escaped)
    return encoded


class EventId(NamedTuple):
    """The place of an event in an answer, and the attempt that it came from: a client sends it back
    as `Last-Event-ID`. On the wire it is `12-61a3f0e5b2c40`, or only the number where an answer
    cannot be resumed; without an attempt (0) one cannot tell that the text before it has changed,
    as after a failover that lost writes."""

    seq: int
    attempt: int = 0

    @classmethod
    def parse(cls, header: bytes) -> EventId:
        """Raises `ValueError`."""
        if not _EVENT_ID.fullmatch(header):
            raise ValueError
        seq, _, attempt = header.partition(b"-")
        return cls(int(seq), int(attempt or b"0", 16))

    def contradicts(self, seq: int, attempt: int, *, is_end: bool = False) -> bool:
        """Whether a client that has this event, and all before it, has another text than the one
        with the event of that number and attempt. Its events were lost in a failover then."""
        if not self.attempt or seq > self.seq:
            return False
        if seq < self.seq:
            return is_end or attempt > self.attempt
        return attempt != self.attempt


#: The last event of a client that comes for the first time.
NOTHING: Final = EventId(-1)


def attempt_mark(attempt: int) -> bytes:
    """Return the part after the number in the ids of an attempt's events."""
    return b"-%x" % attempt


def with_id(seq: int, mark: bytes, event: bytes) -> bytes:
    """One event with its id."""
    return b"id: %d%b\n%b" % (seq, mark, event)


def waiting(status: Status) -> bytes:
    """Return a status as a comment, which every reader of events skips."""
    eta = f", about {status.eta_s:.0f} s" if status.eta_s is not None else ""
    return f": {' '.join(status.stage.split())}{eta}\n\n".encode()


def event(data: bytes, *, name: str = "") -> bytes:
    """One event; `data` is JSON in a single line."""
    head = f"event: {name}\n" if name else ""
    return b"%sdata: %s\n\n" % (head.encode(), one_line(data))
