"""The response of a route whose answer is still coming: others write it, this waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

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
#: In the place of an error's code, in the access log.
CLIENT_LEFT: Final = "client_left"


class LiveResponse(Response):
    """Connects the replies of one answer to its client until the answer is complete or the client
    is gone."""

    background = None

    def __init__(self, dispatcher: Dispatcher, replies: Sequence[Reply], writer: Writer) -> None:
        self._dispatcher = dispatcher
        self._replies = replies
        self._writer = writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offered = scope.get("extensions", {})
        abort: Callable[[], None] = offered.get(ABORT_EXTENSION, _cannot_abort)
        for reply in self._replies:
            on_half_close(scope, reply.speak_soon)
        try:
            ways = (send, context_of(scope).send, abort)
            write = offered.get(WRITE_EXTENSION)
            self._writer.attach(Client(*ways, write) if write is not None else Client(*ways))
            # The server says `disconnect` also when the answer has been sent.
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            for reply in self._replies:
                if not reply.ended:
                    reply.context.error = CLIENT_LEFT
                self._dispatcher.leave(reply)


def _cannot_abort() -> None:
    """Under another server the connection ends by its own timeouts."""
