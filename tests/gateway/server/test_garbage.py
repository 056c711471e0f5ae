"""A connection takes along what it had, and does not leave it to Python's garbage collector, which
looks at everything in one go and holds up all answers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.http import peer
from gateway.http.headers import RequestContext, RequestContextMiddleware, context_of
from gateway.server.http_guard import CONNECTIONS_STATE, GuardedProtocol

ASK = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Known(RequestContext):
    """One that can be referred to weakly."""

    __slots__ = ("__weakref__",)


class Site:
    """A server whose application answers at once, or waits until the client has left."""

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        #: Connections, and of each request its context and what uvicorn has of it.
        self.seen: list[weakref.ref[Any]] = []
        self.closed = asyncio.Event()
        self.asked = asyncio.Event()
        self._server = ServerState()
        app = RequestContextMiddleware(self._app, lambda *_: None)
        self._config = Config(app, http=GuardedProtocol, lifespan="off", log_config=None)
        self._config.load()

    async def ask(self, requests: int) -> None:
        """Send requests on one connection, one after the other, and end it."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._protocol, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(requests):
                writer.write(ASK)
                await self.asked.wait()
                self.asked.clear()
                if not self._waits:
                    await reader.readuntil(b"0\r\n\r\n")
            writer.transport.abort()
            await self.closed.wait()
        if self._server.tasks:
            await asyncio.wait(self._server.tasks)
        # They are let go of one turn of the loop later.
        await asyncio.sleep(0)

    def _protocol(self) -> GuardedProtocol:
        loop = asyncio.get_running_loop()
        state = {CONNECTIONS_STATE: 10, peer.DEPARTURES_STATE: peer.Departures(loop)}
        site = self

        class Watched(GuardedProtocol):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                site.closed.set()

        protocol = Watched(self._config, self._server, state, loop)
        self.seen.append(weakref.ref(protocol))
        return protocol

    async def _app(self, scope: Scope, receive: Any, send: Send) -> None:
        self.seen += [weakref.ref(context_of(scope)), weakref.ref(receive.__self__)]
        self.asked.set()
        if self._waits:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a"})


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(("requests", "waits"), [(3, False), (1, True)])
async def test_a_connection_and_its_requests_leave_no_garbage(
    monkeypatch: pytest.MonkeyPatch, requests: int, waits: bool
) -> None:
    monkeypatch.setattr("gateway.http.headers.RequestContext", Known)
    site = Site(waits=waits)
    await site.ask(requests)
    assert len(site.seen) == 1 + 2 * requests
    assert [each() for each in site.seen] == [None] * len(site.seen)
