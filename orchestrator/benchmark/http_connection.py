"""HTTP connections that stay open from one request to the next."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, Protocol, cast

import httptools

from orchestrator.benchmark.sender_task import Endpoint
from orchestrator.system.gateway_tls import tls_context

_NO_HEADERS: Final[Mapping[str, str]] = {}


class AnswerTaker(Protocol):
    """Takes an answer's status, whether it is a stream of events, and the bytes of its body."""

    status: int
    is_stream: bool

    def feed(self, piece: bytes) -> None: ...


class HttpConnection(asyncio.Protocol):
    """One connection, with one request at a time. httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: AnswerTaker | None = None
        self._done: asyncio.Future[None] | None = None
        self._has_read = False
        self.is_open = False

    async def ask(self, request: bytes, answer: AnswerTaker) -> bool:
        """Send a request and feed its answer. Returns False if the peer closed the connection
        before it said anything. Raises `OSError` if it closed it later."""
        assert self._transport is not None  # noqa: S101 - it was connected
        self._answer, self._has_read = answer, False
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._done
        except ConnectionResetError:
            if self._has_read:
                raise
            return False
        return True

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._has_read = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(ConnectionAbortedError(f"the answer is no HTTP: {error}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._end(ConnectionResetError("the server closed the connection"))

    def on_message_begin(self) -> None:
        self._has_read = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None and name.lower() == b"content-type":
            self._answer.is_stream = value.lower().startswith(b"text/event-stream")

    def on_headers_complete(self) -> None:
        if self._answer is not None:
            self._answer.status = self._parser.get_status_code()
            self._answer.is_stream &= self._answer.status == 200

    def on_body(self, body: bytes) -> None:
        if self._answer is not None:
            self._answer.feed(body)

    def on_message_complete(self) -> None:
        self._answer = None
        if not self._parser.should_keep_alive():
            self.close()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        done, self._done = self._done, None
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _tls(endpoint: Endpoint) -> ssl.SSLContext | None:
    """Raises `UserError`."""
    if endpoint.is_tls:
        return tls_context(endpoint.certificate) or ssl.create_default_context()
    return None


class HttpConnections:
    """The connections to one server; as many as are asked for at once. Each request has `headers`
    beside the usual ones."""

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self._endpoint = endpoint
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = endpoint.head() + more.encode()
        self._tls = _tls(endpoint)
        self._idle: list[HttpConnection] = []

    async def post(self, path: str, body: bytes, answer: AnswerTaker) -> None:
        """Send a request and feed its answer. Raises `OSError`."""
        first = f"POST {self._endpoint.base}{path} HTTP/1.1\r\n".encode()
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (first, self._head, len(body), body)
        while True:
            connection = self._take()
            is_new = connection is None
            connection = connection or await self._open()
            try:
                was_answered = await connection.ask(request, answer)
            except BaseException:
                connection.close()
                raise
            if was_answered:
                if connection.is_open:
                    self._idle.append(connection)
                return
            if is_new:
                raise ConnectionResetError("the server closed the connection without an answer")

    def close(self) -> None:
        """Close those that no request has."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _open(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        endpoint = self._endpoint
        _, connection = await loop.create_connection(
            HttpConnection, endpoint.host, endpoint.port, ssl=self._tls
        )
        return connection
