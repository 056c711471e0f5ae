"""The network between a host and Redis: it passes on, holds everything back, or resets."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Final

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on loopback before a Unix socket."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._pauses = 0
        #: Connections, either way, of which something is held back now.
        self.held = 0

    async def start(self) -> str:
        """Begin to listen. Answers the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()

    def pause(self) -> None:
        """Pass nothing on until each pause has its `resume`; connections stay open, and new ones
        are taken."""
        self._pauses += 1
        self._open.clear()

    def resume(self) -> None:
        self._pauses = max(0, self._pauses - 1)
        if not self._pauses:
            self._open.set()

    def reset(self) -> int:
        """Reset all connections. Answers how many there were."""
        clients = list(self._clients)
        for client in clients:
            option = (socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            client.get_extra_info("socket").setsockopt(*option)
            client.transport.abort()
        return len(clients)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self._clients.add(client)
        server: asyncio.StreamWriter | None = None
        try:
            await self._passes()
            upstream, server = await asyncio.open_unix_connection(self._upstream)
            await asyncio.gather(self._pump(reader, server), self._pump(upstream, client))
        except OSError:
            pass
        finally:
            self._clients.discard(client)
            client.close()
            if server is not None:
                server.close()

    async def _passes(self) -> None:
        """Wait until what is here may go on."""
        self.held += 1
        try:
            await self._open.wait()
        finally:
            self.held -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while part := await reader.read(65536):
                await self._passes()
                writer.write(part)
                await writer.drain()
        finally:
            writer.close()
