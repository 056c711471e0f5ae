"""Whether the client at the other end of a connection is still there.

One that ends its half of a connection may wait for its answer, or be gone. Both look alike until
something is sent: a client that closed the whole socket resets the connection.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Final

from starlette.types import Scope

#: An ASGI extension that our HTTP protocol offers: a list of what to call when the client has
#: ended its half of the connection after the answer's head was sent.
HALF_CLOSE_EXTENSION: Final = "ew.half_close"
#: Another: a function that lets the present body take long, as long as it comes on.
LONG_BODY_EXTENSION: Final = "ew.long_body"
#: The name of `Departures` in the lifespan's state.
DEPARTURES_STATE: Final = "departures"
#: Clients must put up with it at any time before the answer (RFC 9110, 15.2).
INTERIM_ANSWER: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Others have their turn before the next.
_DROPPED_AT_ONCE: Final = 64
#: A peer that does not acknowledge for so long is gone.
_USER_TIMEOUT_MS: Final = 30_000

#: Elsewhere a reset shows only at the second write, and an end means that the client left.
CAN_TELL: Final = sys.platform == "linux"


def addresses_of(
    transport: asyncio.BaseTransport,
) -> tuple[tuple[str, int], tuple[str, int] | None]:
    """Return our address and port of a connection, and the client's; None if that has left."""
    own, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    return (own[0], own[1]), None if client is None else (client[0], client[1])


def notice_if_dead(listener: socket.socket) -> None:
    """Have the kernel give up a peer that is gone without a word, which it would else send to
    again and again for a quarter of an hour: connections have it from their listener."""
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def on_half_close(scope: Scope, speak: Callable[[], None]) -> None:
    """Have `speak` called when only a word to the client can tell whether it is still there."""
    scope.get("extensions", {}).get(HALF_CLOSE_EXTENSION, []).append(speak)


def call_speakers(scope: Scope) -> None:
    for speak in scope["extensions"].get(HALF_CLOSE_EXTENSION, ()):
        speak()


class Departures:
    """Connections whose clients have ended their half, and which are dropped as soon as one is seen
    to be gone: the event loop, which reads no more from them, would not notice. The kernel tells of
    all of them, however many there are."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, asyncio.Transport] = {}
        #: The file of each: one that is closed may not tell it any more, as with TLS.
        self._numbers: dict[asyncio.Transport, int] = {}

    def watch(self, transport: asyncio.Transport) -> None:
        """Drop it in time."""
        if not transport.is_closing():
            number = transport.get_extra_info("socket").fileno()
            self._watched[number], self._numbers[transport] = transport, number
            # It always tells of a reset (EPOLLERR, EPOLLHUP).
            self._epoll.register(number, 0)

    def forget(self, transport: asyncio.Transport) -> None:
        """Forget one that is closed; safe for one that was not watched."""
        number = self._numbers.pop(transport, None)
        if number is not None:
            self._epoll.unregister(number)
            del self._watched[number]

    @cached_property
    def _epoll(self) -> select.epoll:
        epoll = select.epoll()
        self._loop.add_reader(epoll.fileno(), self._drop)
        return epoll

    def _drop(self) -> None:
        for number, _ in self._epoll.poll(0, _DROPPED_AT_ONCE):
            self._epoll.unregister(number)
            transport = self._watched.pop(number)
            del self._numbers[transport]
            transport.abort()
