"""The response of a route whose answer is still coming: others write it, this waits."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.http.headers import context_of
from gateway.http.peer import on_half_close
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.reply import Reply
from gateway.streams.writer import Client, Writer

#: ASGI extensions that our HTTP protocol offers: drop the connection at once, and write a piece of
#: the body without waiting.
ABORT_EXTENSION = "ew.abort"
WRITE_EXTENSION = "ew.write"


class LiveResponse(Response):
    """Connects a reply to its client until the answer is complete or the client is gone."""

    background = None

    def __init__(self, dispatcher: Dispatcher, reply: Reply, writer: Writer) -> None:
        self._dispatcher = dispatcher
        self._reply = reply
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offered = scope.get("extensions", {})
        abort: Callable[[], None] = offered.get(ABORT_EXTENSION, _cannot_abort)
        on_half_close(scope, self._reply.speak_soon)
        try:
            client = Client(send, context_of(scope).send, abort)
            if WRITE_EXTENSION in offered:
                client = client._replace(write=offered[WRITE_EXTENSION])
            self._writer.attach(client)
            # The server says `disconnect` also when the answer has been sent.
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._dispatcher.leave(self._reply)


def _cannot_abort() -> None:
    """Under another server the connection ends by its own timeouts."""
