"""uvicorn's HTTP protocol, with less done for each connection and header."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl

from gateway.http import peer


class PlainProtocol(HttpToolsProtocol):
    """One connection, as uvicorn has it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn asks a socket for each address, which uvloop makes for each call.
        self.connections.add(self)
        self.transport, self.flow = transport, FlowControl(transport)
        self.server, self.client = peer.addresses_of(transport)
        self.scheme = "https" if is_ssl(transport) else "http"

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
