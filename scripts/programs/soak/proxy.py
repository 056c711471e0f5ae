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
        #: Pieces that came while it held everything back.
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
        """Pass nothing on until `resume`; connections stay open, and new ones are taken."""
        self.held = 0
        self._open.clear()

    def resume(self) -> None:
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
            await self._open.wait()
            upstream, server = await asyncio.open_unix_connection(self._upstream)
            await asyncio.gather(self._pump(reader, server), self._pump(upstream, client))
        except OSError:
            pass
        finally:
            self._clients.discard(client)
            client.close()
            if server is not None:
                server.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while part := await reader.read(65536):
                if not self._open.is_set():
                    self.held += 1
                    await self._open.wait()
                writer.write(part)
                await writer.drain()
        finally:
            writer.close()
