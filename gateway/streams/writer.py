"""Bytes on their way to one client. Writing never waits: one slow client must not hold up the
task that serves all of them."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Final, NamedTuple, cast

from starlette.types import Message, Send

from gateway.http.headers import FIRST_PIECE

log = logging.getLogger(__name__)
#: The most that may wait for a client that does not read, beside the system's buffers.
MAX_BUFFERED_BYTES: Final = 1 << 20
#: How long a client that was cut may take to read why.
_CUT_GRACE_S: Final = 5.0

Sending = Coroutine[Any, Any, None]


class SlowClient(Exception):
    """The client reads more slowly than its answer comes, and the buffer is full."""


def _cannot_write(body: bytes) -> bool:
    """Under another server, or while the client does not read."""
    return False


class Client(NamedTuple):
    """Where an answer goes. The head takes the way through the app's middlewares, the body
    goes straight to the server; `abort` drops the connection. `write`, where the server offers it,
    writes a piece of the body that more follows, or answers False: `send` has to be used."""

    send_head: Send
    send: Send
    abort: Callable[[], None]
    write: Callable[[bytes], bool] = _cannot_write


class Writer:
    """One answer's head and body. `open`, `write` and `close` gather, `flush` sends."""

    __slots__ = (
        "_buffered",
        "_client",
        "_closed",
        "_ended",
        "_head",
        "_parts",
        "_quick",
        "_rest",
        "opened",
    )

    def __init__(self) -> None:
        self.opened = False
        self._client: Client | None = None
        self._head: Message | None = None
        self._parts: list[bytes] = []
        self._closed = False
        self._ended = False
        self._rest: asyncio.Task[None] | None = None
        self._buffered = 0
        #: The client's `write`, while pieces may go that way: from the head until the end.
        self._quick: Callable[[bytes], bool] | None = None

    @property
    def is_blocked(self) -> bool:
        """The client has not read what was sent before."""
        return self._rest is not None

    @property
    def gathered(self) -> bytes:
        """The body so far, of an answer that is for no client."""
        return b"".join(self._parts)

    def attach(self, client: Client) -> None:
        """The client can be written to from now on."""
        self._client = client
        self.flush()

    def open(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The answer's head; once, before anything is written."""
        self.opened, self._quick = True, None
        self._head = {"type": "http.response.start", "status": status, "headers": [*headers]}

    def write(self, part: bytes) -> None:
        self._parts.append(part)
        if self._rest is not None:
            self._buffered += len(part)

    def take_back(self) -> bytes:
        """Return the last part that was written, as if it had not been; empty if all were sent."""
        part = self._parts.pop() if self._parts else b""
        if self._rest is not None:
            self._buffered -= len(part)
        return part

    def close(self) -> None:
        """Nothing follows."""
        self._closed, self._quick = True, None

    def flush(self) -> None:
        """Send what has gathered, or leave it for when the client reads again.

        Raises `SlowClient` when too much has gathered.
        """
        quick, parts = self._quick, self._parts
        # The usual case, done once per token.
        if quick is not None and quick(parts[0] if len(parts) == 1 else b"".join(parts)):
            parts.clear()
        elif self._rest is not None:
            if self._buffered > MAX_BUFFERED_BYTES:
                raise SlowClient
        elif self._client is not None:
            self._advance(self._client)

    def cut(self, last_words: bytes) -> None:
        """Give the client up: what waits is dropped for `last_words`, and if those are not
        read soon, so is the connection."""
        self._parts = [last_words]
        self._buffered = 0
        self.close()
        asyncio.get_running_loop().call_later(_CUT_GRACE_S, self._abort_if_blocked)

    def abort(self) -> None:
        """Drop the connection, and whatever was not sent."""
        self._parts = []
        self.close()
        self._ended = True
        if self._client is not None:
            self._client.abort()

    def _abort_if_blocked(self) -> None:
        if self._rest is not None:
            self.abort()

    def _advance(self, client: Client) -> None:
        """Send all that may be sent without waiting."""
        self._quick = None
        if self._head is not None:
            self._begin(client, self._head)
        if self._rest is None and (self._parts or self._closed is not self._ended):
            parts, self._parts = self._parts, []
            self._ended = self._closed
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            if self._ended or not client.write(body):
                more = not self._ended
                message = {"type": "http.response.body", "body": body, "more_body": more}
                self._run(client, client.send(message))
        if self._rest is None and self.opened and not self._closed:
            self._quick = client.write

    def _begin(self, client: Client, head: Message) -> None:
        """Send the head, and what goes on with it in one write, where the server can."""
        self._head = None
        has_more = bool(self._parts) and not self._closed
        if has_more:
            head[FIRST_PIECE] = b"".join(self._parts)
        self._run(client, client.send_head(head))
        if has_more and FIRST_PIECE not in head:
            self._parts.clear()

    def _run(self, client: Client, sending: Awaitable[None]) -> None:
        """Run a sending here and now; a task goes on with it only if it has to wait."""
        coroutine = cast(Sending, sending)
        try:
            waited_for = coroutine.send(None)
        except StopIteration:
            return
        self._rest = asyncio.create_task(self._finish(client, coroutine, waited_for))

    async def _finish(self, client: Client, sending: Sending, waited_for: Any) -> None:
        try:
            await _go_on(sending, waited_for)
            self._rest = None
            self._buffered = 0
            self._advance(client)
        except Exception:
            log.exception("an answer could not be sent")
            self.abort()


@types.coroutine
def _go_on(sending: Sending, waited_for: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that has been run up to where it waits."""
    try:
        yield waited_for
        yield from sending
    finally:
        sending.close()
