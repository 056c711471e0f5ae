"""Answers that the HTTP protocol itself gives, without the application."""

from __future__ import annotations

import uuid

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.http.error_answers import ErrorDialect, answer_error
from gateway.http.errors import ApiError
from gateway.http.headers import Headers, common_headers


class RefusalResponse:
    """An error as bytes, or as an ASGI application that answers so whatever it is asked."""

    def __init__(self, error: ApiError, dialect: ErrorDialect) -> None:
        request_id = uuid.uuid4().hex
        answer = answer_error(error, request_id, dialect)
        self._status, self._body = answer.status, answer.body
        always = [*common_headers(request_id), (b"cache-control", b"no-store")]
        self._headers = [*answer.headers, *always, (b"connection", b"close")]

    def wire(self, default_headers: Headers) -> bytes:
        lines = [b"%b: %b\r\n" % header for header in (*default_headers, *self._headers)]
        return b"".join([STATUS_LINE[self._status], *lines, b"\r\n", self._body])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self._status}
        await send({**head, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})
