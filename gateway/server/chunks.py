"""Answers of unknown length, written as chunks of HTTP/1.1; as they are for clients of HTTP/1.0."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

#: Headers by which a body does not come in chunks, or the connection ends.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_WITHOUT_BODY: Final = frozenset({204, 304})
_CONTROLS: Final = bytes((*range(9), *range(10, 32), 127))


class ChunkWriter:
    """Writes what uvicorn's own `send` would, in a fifth of the time: nothing has to be awaited,
    no message made, and no header looked at by itself. The end of an answer goes through `send`."""

    __slots__ = ("_cycle", "_flow", "_write")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._write = cycle.transport.write

    def begin(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], first: bytes = b""
    ) -> bool:
        """Write the head of an answer in chunks, and its first piece with it, if that is not empty.
        False if only `send` can: it has to wait, the body does not come in chunks, or a header is
        one that it refuses."""
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        scope = cycle.scope
        if scope["method"] == "HEAD" or scope["http_version"] == "1.0" or status in _WITHOUT_BODY:
            return False
        every = [*cycle.default_headers, *headers]
        lines = b"".join([b"%b: %b\r\n" % each for each in every])
        ends = 2 * len(every)
        is_clean = len(lines.translate(None, _CONTROLS)) == len(lines) - ends
        if not is_clean or not _FRAMING.isdisjoint([name.lower() for name, _ in every]):
            return False
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        cycle.chunked_encoding = True
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        rest = b"transfer-encoding: chunked\r\n\r\n"
        piece = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        self._write(b"%b%b%b%b%b" % (STATUS_LINE[status], lines, close, rest, piece))
        return True

    def write(self, body: bytes) -> bool:
        """Write a piece of the body that more follows. False if only `send` can: it has to wait for
        a client that does not read, or the body does not come in chunks."""
        cycle = self._cycle
        if self._flow.write_paused or not cycle.chunked_encoding or cycle.response_complete:
            return False
        if body and not cycle.disconnected:
            self._write(b"%x\r\n%b\r\n" % (len(body), body))
        return True


def for_its_version(cycle: RequestResponseCycle, app: Any) -> Any:
    """Return the application for a request of its version of HTTP. Clients of 1.0 know no chunks,
    which uvicorn sends them all the same: to them, a body without a length ends with its
    connection."""
    if cycle.scope["http_version"] != "1.0":
        return app

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        is_unbounded = False

        async def write(message: Message) -> None:
            nonlocal is_unbounded
            if message["type"] == "http.response.start":
                is_unbounded = all(
                    name.lower() != b"content-length" for name, _ in message["headers"]
                )
                if is_unbounded:
                    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
            elif is_unbounded and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, write)

    return plain
