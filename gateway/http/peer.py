"""Whether the client at the other end of a connection is still there.

One that ends its half of a connection may wait for its answer, or be gone. Both look alike until
something is sent: a client that closed the whole socket resets the connection.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Final

from starlette.types import Scope

#: An ASGI extension that our HTTP protocol offers: a list of what to call when the client has
#: ended its half of the connection after the answer's head was sent.
HALF_CLOSE_EXTENSION: Final = "ew.half_close"
#: Another: a function that lets the present body take long, as long as it comes on.
LONG_BODY_EXTENSION: Final = "ew.long_body"
#: Clients must put up with it at any time before the answer (RFC 9110, 15.2).
INTERIM_ANSWER: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LOOK_EVERY_S: Final = 0.25
#: A peer that does not acknowledge for so long is gone.
_USER_TIMEOUT_MS: Final = 30_000
#: Linux' state of a socket that its peer has reset; first in `struct tcp_info`.
_TCP_CLOSE: Final = 7

#: Elsewhere a reset shows only at the second write, and an end means that the client left.
CAN_TELL: Final = sys.platform == "linux"


def notice_if_dead(connection: socket.socket) -> None:
    """Have the kernel give up a peer that is gone without a word, which it would else send to
    again and again for a quarter of an hour."""
    if connection.family in (socket.AF_INET, socket.AF_INET6) and sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def on_half_close(scope: Scope, speak: Callable[[], None]) -> None:
    """Have `speak` called when only a word to the client can tell whether it is still there."""
    scope.get("extensions", {}).get(HALF_CLOSE_EXTENSION, []).append(speak)


def call_speakers(scope: Scope) -> None:
    for speak in scope["extensions"][HALF_CLOSE_EXTENSION]:
        speak()


def watch(transport: asyncio.Transport) -> None:
    """Drop a connection whose client has ended its half as soon as it is seen to be gone: the
    event loop, which reads no more from it, would not notice."""
    if transport.is_closing():
        return
    if _is_reset(transport.get_extra_info("socket")):
        transport.abort()
    else:
        asyncio.get_running_loop().call_later(_LOOK_EVERY_S, watch, transport)


def _is_reset(connection: socket.socket) -> bool:
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:
        return True
