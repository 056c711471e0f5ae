"""One context (a request and its answer), and the headers that every answer carries."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.keys import KeyRecord
from contract.messages import Done
from gateway.tracing.request_trace import RequestTrace

Headers = Iterable[tuple[bytes, bytes]]
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_UNPRINTABLE: Final = re.compile(r"[^!-+\--~]")
_IN_SCOPE: Final = "ew.context"
#: An ASGI extension that our HTTP protocol offers: write a head without waiting, and a first piece
#: of the body with it, or return False.
HEAD_EXTENSION: Final = "ew.head"
#: A key of the message that begins an answer: a piece of the body that more follows. It is taken
#: out by whoever has sent it.
FIRST_PIECE: Final = "ew.first"


async def send_nowhere(message: Message) -> None:
    """Stand in for the server where no client waits at a connection."""


class RequestContext:
    """The context of a request while it is answered. Times are of the monotonic clock."""

    __slots__ = (
        "answers",
        "began",
        "error",
        "first_ms",
        "ignored",
        "job_id",
        "key",
        "model",
        "moved_by",
        "queue_ms",
        "quota_headers",
        "request_id",
        "route",
        "send",
        "trace",
    )

    def __init__(self, send: Send, given_id: bytes | None = None) -> None:
        #: Straight to the server, past the wrappers that only care for the answer's head.
        self.send = send
        self.began = time.monotonic()
        self.job_id = os.urandom(16).hex()
        good = given_id is not None and _REQUEST_ID.fullmatch(given_id)
        self.request_id = given_id.decode() if given_id and good else self.job_id
        self.key: KeyRecord | None = None
        #: The model that does it; and why, if that is not the one that the request names.
        self.model = ""
        self.moved_by: str | None = None
        #: The request's own word on `split`, `fallback` and `shadow` (`X-EW-Route`).
        self.route: bytes | None = None
        self.queue_ms = 0.0
        self.first_ms = 0.0
        #: The good ends of its jobs, and the code of the error that it ended with.
        self.answers: list[Done] = []
        self.error = ""
        #: Fields of the request that have no effect.
        self.ignored: set[str] = set()
        #: The rest of the key's limits.
        self.quota_headers: list[tuple[bytes, bytes]] = []
        #: Its span, where traces are on.
        self.trace: RequestTrace | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """To be sent with the first byte of the answer, which is now."""
        elapsed_ms = (time.monotonic() - self.began) * 1000
        headers = common_headers(self.request_id, elapsed_ms, self.queue_ms, self.first_ms)
        headers += self.quota_headers
        if self.moved_by is not None:
            headers += [
                (b"x-ew-model", self.model.encode()),
                (b"x-ew-moved-by", self.moved_by.encode()),
            ]
        if self.ignored:
            headers.append((b"x-ignored-fields", _listed(self.ignored)))
        return headers


def _listed(names: Iterable[str]) -> bytes:
    """Names of a client's own, as a header may have them."""
    return ", ".join(_UNPRINTABLE.sub("?", name) for name in sorted(names)).encode()


def common_headers(
    request_id: str, elapsed_ms: float = 0.0, queue_ms: float = 0.0, first_ms: float = 0.0
) -> list[tuple[bytes, bytes]]:
    """Return the headers that every answer carries."""
    return [
        (b"x-request-id", request_id.encode()),
        # Anthropic's name of it.
        (b"request-id", request_id.encode()),
        (b"x-response-time", b"%.1f" % elapsed_ms),
        (b"server-timing", b"queue;dur=%.1f, first;dur=%.1f" % (queue_ms, first_ms)),
        (b"x-content-type-options", b"nosniff"),
    ]


def context_of(scope: Scope) -> RequestContext:
    """The context that a request belongs to."""
    context: RequestContext = scope[_IN_SCOPE]
    return context


def header(headers: Headers, name: bytes) -> bytes | None:
    """A header's first value; `name` in lower case."""
    # A loop of its own is three times as fast as a generator, and this is done ten times a request.
    for key, value in headers:
        if key == name:
            return value
    return None


class RequestContextMiddleware:
    """Outermost: begins the context, answers HEAD as GET without a body, adds the context's
    headers to whatever answers, and reports the status to `finished` (0 if the client left
    before there was one). `begun` is told of each request first, if given."""

    def __init__(
        self,
        app: ASGIApp,
        finished: Callable[[Scope, RequestContext, int], None],
        begun: Callable[[Scope, RequestContext], None] | None = None,
    ) -> None:
        self.app = app
        self.finished = finished
        self.begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # The server, which has a scope of its own, leaves out the body.
            scope = {**scope, "method": "GET"}
        context = RequestContext(send, header(scope["headers"], b"x-request-id"))
        context.route = header(scope["headers"], b"x-ew-route")
        scope[_IN_SCOPE] = context
        if self.begun is not None:
            self.begun(scope, context)
        write_head = scope.get("extensions", {}).get(HEAD_EXTENSION)
        status = 0

        async def send_head(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = [*message["headers"], *context.headers()]
                if header(headers, b"cache-control") is None:
                    headers.append((b"cache-control", b"no-store"))
                first = message.get(FIRST_PIECE, b"")
                if write_head is not None and write_head(status, headers, first):
                    message.pop(FIRST_PIECE, None)
                    return
            await send(message)

        try:
            await self.app(scope, receive, send_head)
        finally:
            self.finished(scope, context, status)
            # They lead to what knows the request: only the garbage collector would free it.
            scope.pop(_IN_SCOPE)
            scope.get("extensions", {}).clear()
