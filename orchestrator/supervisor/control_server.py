"""The supervisor's end of the conversations that `control` describes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from contract.supervision.control import Refused, socket_path
from orchestrator.protocol.control import Answer, LastAnswer, Request

_LONGEST_LINE: Final = 8 * 1024 * 1024
_requests = msgspec.json.Decoder(Request)


class Connection:
    """The supervisor's end of one conversation."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def send(self, answer: Answer) -> None:
        """Never waits; a client that is gone does not matter."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(answer) + b"\n")

    def finish(self, answer: LastAnswer) -> None:
        self.send(answer)
        self._writer.close()


class ControlServer:
    """Hands each request to `on_request`, and each asker's leaving to `on_leave`."""

    def __init__(
        self,
        on_request: Callable[[Connection, Request], None],
        on_leave: Callable[[Connection], None],
    ) -> None:
        self._on_request = on_request
        self._on_leave = on_leave
        self._server: asyncio.Server | None = None
        self._bound: os.stat_result | None = None

    @property
    def is_reachable(self) -> bool:
        """Return whether its socket is still the one at the path."""
        try:
            return self._bound is not None and os.path.samestat(self._bound, socket_path().stat())
        except FileNotFoundError:
            return False

    async def open(self) -> None:
        path = socket_path()
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._converse, path, limit=_LONGEST_LINE
            )
        finally:
            os.umask(before)
        self._bound = path.stat()

    def close(self) -> None:
        socket_path().unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The end of the supervisor cancels it, which asyncio before Python 3.12 logs as an error.
        with suppress(asyncio.CancelledError):
            await self._hear(reader, writer)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        try:
            request = _requests.decode(await reader.readline())
        except (msgspec.MsgspecError, ValueError) as error:
            hint = "after an update of ew: `./ew restart` goes over to it, and loses nothing"
            connection.finish(Refused(f"the supervisor does not understand: {error}", hint))
            return
        self._on_request(connection, request)
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            self._on_leave(connection)
            writer.close()
