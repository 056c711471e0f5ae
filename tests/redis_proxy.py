"""A TCP proxy before a Valkey: it passes everything on, holds it back, or accepts and resets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from contract.process.tasks import cancel_and_wait

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class RedisProxy:
    """Listens on loopback, in the loop of the test."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._resets = False
        self._flows = asyncio.Event()
        self._flows.set()
        #: How many connections were reset after they had been accepted.
        self.resets = 0

    async def __aenter__(self) -> RedisProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        await cancel_and_wait(self._tasks)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def reset(self) -> None:
        """Reset all connections, and each new one as soon as it was accepted."""
        self._resets = True
        for client in list(self._clients):
            self._cut(client)

    def switch(self, path: str) -> None:
        """Pass new connections on to another server, as after a failover."""
        self._path = path

    def hold(self) -> None:
        """Pass nothing on, and close nothing: as when a network loses every packet."""
        self._flows.clear()

    def heal(self) -> None:
        self._resets = False
        self._flows.set()

    def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            if self._resets:
                self._cut(client)
                return
            self._clients.add(client)
            upstream, server = await asyncio.open_unix_connection(self._path)
            await asyncio.gather(self._pump(reader, server), self._pump(upstream, client))
        except OSError:
            return
        finally:
            self._clients.discard(client)
            client.close()

    def _cut(self, client: asyncio.StreamWriter) -> None:
        self.resets += 1
        connection = client.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        client.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while part := await reader.read(65536):
                await self._flows.wait()
                writer.write(part)
                await writer.drain()
        finally:
            writer.close()


@contextlib.contextmanager
def proxy_beside(path: str) -> Iterator[tuple[str, Callable[[bool], None]]]:
    """Yield the URL of one that runs in a thread, and what holds it (True) and heals it (False)."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = RedisProxy(path)

    def await_there(coroutine: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    def hold(holds: bool) -> None:
        loop.call_soon_threadsafe(proxy.hold if holds else proxy.heal)

    await_there(proxy.__aenter__())
    try:
        yield proxy.url, hold
    finally:
        hold(False)
        await_there(proxy.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
