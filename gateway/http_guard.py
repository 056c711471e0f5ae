"""uvicorn's HTTP protocol with what it lacks: limits on a request's head, deadlines for head
and body, and word to the application when the server begins to stop."""

from __future__ import annotations

import asyncio
import socket
import sys
import uuid
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.errors import OPENAI_PREFIX, ApiError, answer_error
from gateway.headers import common_headers
from gateway.live import ABORT_EXTENSION

MAX_HEAD_BYTES: Final = 16_384
MAX_HEADERS: Final = 64
HEAD_DEADLINE_S: Final = 10.0
BODY_DEADLINE_S: Final = 30.0
#: What the lifespan's state calls the function that begins to drain.
DRAIN_STATE: Final = "drain"
_LINGER_S: Final = 1.0
#: A peer that does not acknowledge for so long is gone.
_USER_TIMEOUT_MS: Final = 30_000


class _HeadTooLarge(Exception):
    """Raised inside the parser, to stop it."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        #: Of the present head: bytes that came in, and what the parser made of them.
        self._received_bytes = 0
        self._parsed_bytes = 0
        self._too_large = False
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _notice_dead_peer(transport.get_extra_info("socket"))
        self._expect_within(HEAD_DEADLINE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._received_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._received_bytes > MAX_HEAD_BYTES:
            self._too_large = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._received_bytes = self._parsed_bytes = 0
        extensions: dict[str, Any] = {ABORT_EXTENSION: self.transport.abort}
        self.scope["extensions"] = extensions
        self._expect_within(HEAD_DEADLINE_S)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._check_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._check_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect_within(BODY_DEADLINE_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._relax()
        super().on_message_complete()

    def shutdown(self) -> None:
        """The server stops: the application is told, so that open answers may end in time."""
        self.app_state[DRAIN_STATE]()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        if self._too_large:
            limits = f"{MAX_HEAD_BYTES} bytes or {MAX_HEADERS} fields"
            self._refuse(ApiError("head_too_large", f"the head is larger than {limits}"))
        else:
            self._refuse(ApiError("bad_http", msg))

    def _check_head(self, parsed_bytes: int) -> None:
        self._parsed_bytes += parsed_bytes
        if self._parsed_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._too_large = True
            raise _HeadTooLarge

    def _expect_within(self, seconds: float) -> None:
        """Expect the rest of the head or body."""
        self._relax()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        if self._in_head and self._received_bytes == 0:
            self.transport.close()
        else:
            self._refuse(ApiError("request_timeout", "the request came too slowly"))

    def _refuse(self, error: ApiError) -> None:
        """Answer without the application, and end the connection."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._relax()
        if not self._may_answer():
            self.transport.close()
            return
        request_id = uuid.uuid4().hex
        answer = answer_error(error, request_id, openai=self._is_openai())
        headers = [
            *self.server_state.default_headers,
            *answer.headers,
            *common_headers(request_id),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[answer.status], *lines, b"\r\n", answer.body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Closed at once, what the client still sends would reset the connection, answer and all.
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _may_answer(self) -> bool:
        """Whether nothing else answers, or has answered, on this connection at the moment. If
        the application is about to, it is told that the client is gone."""
        cycle = self.cycle
        if cycle is None:
            return True
        if self._in_head:
            # The cycle is that of the request before.
            return bool(cycle.response_complete)
        if cycle.response_started:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _is_openai(self) -> bool:
        return self.scope is not None and self.url.startswith(OPENAI_PREFIX.encode())


def _notice_dead_peer(connection: socket.socket) -> None:
    """Without it the kernel sends again and again for a quarter of an hour."""
    if connection.family in (socket.AF_INET, socket.AF_INET6) and sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
