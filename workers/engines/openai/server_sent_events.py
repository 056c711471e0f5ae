"""Server-sent events, cut out of a stream of bytes."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from workers.engines.openai.errors import UpstreamFailed

#: Of one event. Log probabilities of a step may take 100 KB.
_LARGEST_EVENT: Final = 1_048_576
#: A lone CR ends a line, too; the last of a packet may be half of a CRLF.
_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?=[^\n])")
_BOM: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """A server-sent event."""

    data: bytes
    is_error: bool = False


class EventReader:
    """Cuts a byte stream into its server-sent events, as the HTML standard has them. `error` is
    a field that llama.cpp adds."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_first = True
        self._is_error = False
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that are complete now. Raises `UpstreamFailed`."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        events = [event for line in lines if (event := self._take(line)) is not None]
        if len(self._rest) + sum(map(len, self._data)) > _LARGEST_EVENT:
            raise UpstreamFailed("the server behind this model sends an event without an end")
        return events

    def end(self) -> list[Event]:
        """Return what was not closed when the stream ended: the last event of some servers."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes) -> Event | None:
        if self._is_first:
            line, self._is_first = line.removeprefix(_BOM), False
        if not line:
            return self._event()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field in (b"data", b"error"):
            self._data.append(value)
        if field == b"error" or (field == b"event" and value == b"error"):
            self._is_error = True
        return None

    def _event(self) -> Event | None:
        lines, self._data = self._data, []
        is_error, self._is_error = self._is_error, False
        return Event(b"\n".join(lines), is_error) if lines else None
