"""An OpenAI server that does what a test tells it to, also what no server should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any


class Exchange:
    """One request to /completions or /chat/completions, and the reply to it."""

    def __init__(
        self, path: str, headers: dict[str, str], body: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self._writer = writer
        self._began = False
        #: Set when the client has closed the connection.
        self.left = asyncio.Event()

    async def refuse(
        self, status: int, body: str, kind: str = "application/json", *headers: str
    ) -> None:
        """Answer with an error, and headers of its own."""
        await _respond(self._writer, status, kind, body.encode(), *headers)

    async def reply(self, body: str, kind: str) -> None:
        """Answer with one document."""
        await _respond(self._writer, 200, kind, body.encode())

    async def begin(self, status: int = 200, *headers: str) -> None:
        """The head of a stream, with headers of its own."""
        self._began = True
        lines = (f"HTTP/1.1 {status} -", "Transfer-Encoding: chunked", *headers)
        self._writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())

    async def send(self, data: bytes) -> None:
        """Some of the stream's bytes, in a packet of their own."""
        if not self._began:
            await self.begin(200, "Content-Type: text/event-stream")
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def event(self, **data: Any) -> None:
        await self.send(f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode())

    async def say(self, text: str, **choice: Any) -> None:
        """A piece of the answer."""
        if self.path.endswith("/chat/completions"):
            choice = {"delta": {"content": text}, **choice}
        else:
            choice = {"text": text, **choice}
        await self.event(choices=[{"index": 0, **choice}])

    async def finish(self, reason: str = "stop", **usage: Any) -> None:
        """The end of the answer, and of the stream."""
        await self.say("", finish_reason=reason)
        if usage:
            await self.event(choices=[], usage=usage)
        await self.send(b"data: [DONE]\n\n")
        await self.end()

    async def end(self) -> None:
        """The end of the stream, as HTTP has it."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def break_off(self) -> None:
        """Close the connection in the middle of it."""
        self._writer.transport.abort()


class ScriptedUpstream:
    """Listens on a port of its own. `answer` is what it does with requests for an answer."""

    def __init__(self) -> None:
        self.port = 0
        self.models: list[dict[str, Any]] = [{"id": "up", "owned_by": "vllm"}]
        self.models_status = 200
        #: How often anything but an answer was asked for.
        self.looked = 0
        self.exchanges: list[Exchange] = []
        self.answer: Callable[[Exchange], Awaitable[None]] = _say_hello
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone, as a server that crashed."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the latest request."""
        return self.exchanges[-1].body

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return False
        request, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = request.split()[1]
        if request.startswith("POST"):
            exchange = Exchange(path, headers, json.loads(body), writer)
            self.exchanges.append(exchange)
            await self._reply(exchange, reader)
            return not exchange.left.is_set()
        await self._tell(path, writer)
        return True

    async def _reply(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        answering = asyncio.ensure_future(self.answer(exchange))
        leaving = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            exchange.left.set()
            answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _tell(self, path: str, writer: asyncio.StreamWriter) -> None:
        known = {"/v1/models": {"data": self.models}, "/version": {"version": "0.32.0"}}
        self.looked += 1
        status = self.models_status if path in known else 404
        body = json.dumps(known.get(path, {"detail": "Not Found"})).encode()
        await _respond(writer, status, "application/json", body)


async def _respond(
    writer: asyncio.StreamWriter, status: int, kind: str, body: bytes, *headers: str
) -> None:
    length = f"Content-Length: {len(body)}"
    lines = (f"HTTP/1.1 {status} -", f"Content-Type: {kind}", length, *headers)
    writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)
    await writer.drain()


async def _say_hello(exchange: Exchange) -> None:
    for piece in ("Hel", "lo ", "you."):
        await exchange.say(piece)
    await exchange.finish(prompt_tokens=7, completion_tokens=5)
