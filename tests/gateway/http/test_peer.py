"""Connections whose clients have ended their half, and are gone."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import ExitStack
from typing import Any, cast

import pytest

from gateway.__main__ import bound_socket
from gateway.http.peer import Departures

MANY = 100


class Half:
    """A connection whose client has ended its half, with what `Departures` uses of a transport."""

    def __init__(self, stack: ExitStack, listener: socket.socket) -> None:
        self.client = stack.enter_context(socket.create_connection(listener.getsockname()))
        self.server = stack.enter_context(listener.accept()[0])
        self.client.shutdown(socket.SHUT_WR)
        self.aborted = asyncio.Event()

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.server

    def abort(self) -> None:
        self.aborted.set()
        self.server.close()

    def reset(self) -> None:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()


async def test_each_that_is_gone_is_dropped_and_no_other() -> None:
    departures = Departures(asyncio.get_running_loop())
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        halves = [Half(stack, listener) for _ in range(MANY)]
        for each in halves:
            departures.watch(cast(Any, each))
        gone, left = halves[: MANY - 2], halves[MANY - 2 :]
        for each in gone:
            each.reset()
        await asyncio.wait_for(asyncio.gather(*(each.aborted.wait() for each in gone)), 30)
        assert not any(each.is_closing() for each in left)
        departures.forget(cast(Any, left[1]))
        for each in left:
            each.reset()
        await asyncio.wait_for(left[0].aborted.wait(), 30)
        assert not left[1].is_closing()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such option")
def test_connections_have_from_their_listener_when_a_silent_peer_is_given_up() -> None:
    with bound_socket("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            after_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert after_ms == 30_000
