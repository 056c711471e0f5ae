"""A TCP proxy before a Valkey: it passes everything on, or accepts and resets."""

from __future__ import annotations

import asyncio
import socket
import struct

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

    def heal(self) -> None:
        self._resets = False

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
            await asyncio.gather(_pump(reader, server), _pump(upstream, client))
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


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    finally:
        writer.close()
