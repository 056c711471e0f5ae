"""uvicorn's HTTP protocol with what it lacks: limits on heads and on pipelined requests,
deadlines for head and body, stricter rules, and word to the application when the server stops."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.http import peer
from gateway.http.error_answers import dialect_of
from gateway.http.errors import ApiError
from gateway.http.headers import HEAD_EXTENSION
from gateway.server.chunks import ChunkWriter, for_its_version
from gateway.server.deadline import Deadline
from gateway.server.http_rules import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    head_too_large,
    problem_of,
    without_offers,
)
from gateway.server.plain_http import PlainProtocol
from gateway.server.refusal import RefusalResponse
from gateway.server.tls import certificate_problem
from gateway.streams.live import ABORT_EXTENSION, WRITE_EXTENSION

#: Requests of one connection that wait for the answer to the one before them.
MAX_PIPELINED: Final = 8
HEAD_DEADLINE_S: Final = 10.0
BODY_DEADLINE_S: Final = 30.0
#: The name, in the lifespan's state, of the function that begins to drain; it returns whether
#: others serve now, so that open answers may take the time that they need.
DRAIN_STATE: Final = "drain"
#: The name there of the most connections that a process may have.
CONNECTIONS_STATE: Final = "max_connections"
_LINGER_S: Final = 1.0
#: A client that has just connected when the server stops may still ask.
_FIRST_REQUEST_S: Final = 2.0
#: Bytes that it may take to send one of a chunked body.
_LARGEST_FRAMING: Final = 16


class _Stop(Exception):
    """Raised inside the parser, to stop it."""


class GuardedProtocol(PlainProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._made_at = 0.0
        self._deadline = Deadline(self.loop, self._late)
        self._in_head = True
        #: Of the present head or body: bytes that came in, and what the parser made of them.
        self._received_bytes = 0
        self._body_bytes = 0
        self._parsed_bytes = 0
        #: Why the parser was stopped.
        self._problem: ApiError | None = None
        #: The request that is being answered, or was last.
        self._answering: RequestResponseCycle | None = None
        #: Whatever the client still sends is dropped.
        self._is_deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._made_at = self.loop.time()
        self._deadline.expect_within(HEAD_DEADLINE_S)
        if len(self.connections) > self.app_state[CONNECTIONS_STATE]:
            self._refuse(ApiError("too_many_connections", "too many connections are open"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        self.app_state[peer.DEPARTURES_STATE].forget(self.transport)
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether a client that says nothing more may wait for the answer it is owed."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.disconnected:
            return False
        if not peer.CAN_TELL or self.scheme == "https":
            # asyncio ends a TLS connection with its first half.
            return False
        if cycle.more_body:
            self._refuse(ApiError("incomplete_body", "the body ended before its length"))
        else:
            self._close_after_answers()
        self._provoke()
        self.app_state[peer.DEPARTURES_STATE].watch(self.transport)
        return True

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        self._received_bytes += len(data)
        self._feed(data)
        # The parser keeps a field that does not end, at the end of a body as in a head.
        if self._received_bytes - self._body_bytes * _LARGEST_FRAMING > MAX_HEAD_BYTES:
            self._refuse(head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._deadline.is_long = True, False
        self._received_bytes = self._body_bytes = self._parsed_bytes = 0
        extensions: dict[str, Any] = {
            ABORT_EXTENSION: self.transport.abort,
            peer.HALF_CLOSE_EXTENSION: [],
            peer.LONG_BODY_EXTENSION: self._deadline.allow_long,
        }
        self.scope["extensions"] = extensions
        self._deadline.expect_within(HEAD_DEADLINE_S)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._check_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers behind a chunked body belong to no head, and have no use here.
        if self._in_head:
            super().on_header(name, value)
        self._check_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._close_after_answers()
            raise _Stop
        parser = self.parser
        problem = problem_of(parser.get_method(), parser.get_http_version(), self.headers)
        ssl_object = self.transport.get_extra_info("ssl_object")
        problem = problem or certificate_problem(ssl_object, self.config.ssl, self.url)
        if problem is not None:
            self._stop(problem)
        self._in_head = False
        self._received_bytes = 0
        self._deadline.expect_within(BODY_DEADLINE_S)
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._deadline.came_on(BODY_DEADLINE_S)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._deadline.relax()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()

    def shutdown(self) -> None:
        """The server stops: the application is told, so that open answers may end in time."""
        if self.app_state[DRAIN_STATE]():
            # A request may be on its way, on any connection.
            self.config.timeout_graceful_shutdown = None
            self.loop.call_later(_FIRST_REQUEST_S, super().shutdown)
        elif self.cycle is None and self.loop.time() - self._made_at < _FIRST_REQUEST_S:
            self.loop.call_later(_FIRST_REQUEST_S, super().shutdown)
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        extensions = cast(Scope, cycle.scope)["extensions"]
        writer = ChunkWriter(cycle)
        extensions[HEAD_EXTENSION], extensions[WRITE_EXTENSION] = writer.begin, writer.write
        super()._start_asgi_task(cycle, for_its_version(cycle, app))

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            if not self._is_deaf:
                self._refuse(self._problem or ApiError("bad_http", "this is not HTTP"))

    def _decline(self, rest: bytes) -> None:
        """Read a request again without its offer of another protocol: the parser takes what
        follows such a head for that protocol, and not for the request's body."""
        line = b"%b %b HTTP/%b\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        kept = [b"%b: %b\r\n" % header for header in without_offers(self.headers)]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"".join([line, *kept, b"\r\n", rest]))

    def _check_head(self, parsed_bytes: int) -> None:
        self._parsed_bytes += parsed_bytes
        if self._parsed_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._stop(head_too_large())

    def _stop(self, problem: ApiError) -> NoReturn:
        self._problem = problem
        raise _Stop

    def _late(self, seconds: float) -> None:
        if self.flow.read_paused:
            # The client waits for us: we do not read.
            self._deadline.expect_within(seconds)
        elif self._in_head and self._received_bytes == 0:
            self.transport.close()
        else:
            self._refuse(ApiError("request_timeout", "the request came too slowly"))

    def _close_after_answers(self) -> None:
        """Answer what was asked in full, and nothing more."""
        self._deadline.relax()
        self._is_deaf = True
        self.cycle.keep_alive = False

    def _provoke(self) -> None:
        """Say something harmless to a client that may be gone, so that we are told."""
        cycle = self._answering
        if cycle is None or cycle.disconnected:
            return
        if cycle.response_started:
            peer.call_speakers(cast(Scope, cycle.scope))
        elif cycle.scope["http_version"] == "1.1":
            self.transport.write(peer.INTERIM_ANSWER)

    def _refuse(self, error: ApiError) -> None:
        """Answer without the application, in its turn, and end the connection."""
        if self._is_deaf or self.transport.is_closing():
            return
        cycle = self.cycle
        is_asked = self._in_head or cycle is None or not cycle.more_body
        if cycle is not None and is_asked and not cycle.response_complete:
            self._close_after_answers()
        elif self.pipeline:
            # Its turn will come; its body will not.
            self._close_after_answers()
            self.pipeline[0] = (cycle, self._refusal(error))  # type: ignore[assignment]
        else:
            self._refuse_now(error)

    def _refuse_now(self, error: ApiError) -> None:
        self._is_deaf = True
        self._deadline.relax()
        cycle = self.cycle
        if cycle is not None and not self._in_head:
            if cycle.response_started:
                self.transport.close()
                return
            # The application is told that its client is gone.
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(self._refusal(error).wire(self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Closed at once, what the client still sends would reset the connection, answer and all.
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _refusal(self, error: ApiError) -> RefusalResponse:
        path = self.url.decode("latin-1") if self.scope is not None else ""
        return RefusalResponse(error, dialect_of(path))
