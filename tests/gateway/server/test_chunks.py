"""Chunks that are written past uvicorn's `send`, and what it would have written."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.server.chunks import ChunkWriter, for_its_version


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.got = b""
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.got += data
        self.writes += 1

    def close(self) -> None: ...


def new_cycle(
    wire: Any, version: str = "1.1", *, keep_alive: bool = True, method: str = "POST"
) -> RequestResponseCycle:
    scope: Any = {"type": "http", "method": method, "http_version": version}
    log, always = logging.getLogger(), [(b"date", b"now")]
    ended = asyncio.Event()
    return RequestResponseCycle(
        scope, wire, FlowControl(wire), log, log, False, always, ended, False, keep_alive, list
    )


async def answer(*headers: tuple[bytes, bytes], short: bool) -> bytes:
    """Return what is on the wire of an answer of three pieces."""
    wire = Wire()
    cycle = new_cycle(wire)
    writer = ChunkWriter(cycle)
    await cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
    for body in (b"data: a\n\n", b"", b"x" * 300):
        if not (short and writer.write(body)):
            await cycle.send({"type": "http.response.body", "body": body, "more_body": True})
    await cycle.send({"type": "http.response.body", "body": b"end", "more_body": False})
    assert not writer.write(b"nothing comes behind the end")
    return wire.got


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"312")]])
async def test_both_ways_put_the_same_on_the_wire(headers: list[tuple[bytes, bytes]]) -> None:
    assert await answer(*headers, short=True) == await answer(*headers, short=False)


async def test_the_short_way_is_closed_before_the_head_and_while_the_client_does_not_read() -> None:
    wire = Wire()
    cycle = new_cycle(wire)
    writer = ChunkWriter(cycle)
    assert not writer.write(b"too early")
    await cycle.send({"type": "http.response.start", "status": 200, "headers": []})
    cycle.flow.pause_writing()
    head = wire.got
    assert not writer.write(b"too much")
    cycle.flow.resume_writing()
    assert writer.write(b"again")
    assert wire.got == head + b"5\r\nagain\r\n"


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    wire = Wire()
    cycle = new_cycle(wire)
    await cycle.send({"type": "http.response.start", "status": 200, "headers": []})
    cycle.disconnected = True
    head = wire.got
    assert ChunkWriter(cycle).write(b"a")
    assert wire.got == head


@pytest.mark.parametrize(
    ("version", "headers", "body"),
    [
        ("1.0", [], b"data: a\n\nend"),
        ("1.0", [(b"Content-Length", b"12")], b"data: a\n\nend"),
        ("1.1", [], b"9\r\ndata: a\n\n\r\n3\r\nend\r\n0\r\n\r\n"),
    ],
)
async def test_clients_of_http_1_0_get_no_chunks(
    version: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in (b"data: a\n\n", b""):
            if not writer.write(piece):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    wire = Wire()
    cycle = new_cycle(wire, version)
    writer = ChunkWriter(cycle)
    assert version == "1.1" or not writer.begin(200, headers)
    await for_its_version(cycle, app)(cycle.scope, cycle.receive, cycle.send)
    head, _, told = wire.got.partition(b"\r\n\r\n")
    assert told == body
    assert (b"transfer-encoding" in head) == (version == "1.1")
    assert cycle.response_complete


HEAD = [(b"content-type", b"text/event-stream"), (b"x-request-id", b"r\t1")]


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_both_ways_write_the_same_head(*, keep_alive: bool) -> None:
    short, long = Wire(), Wire()
    cycle = new_cycle(short, keep_alive=keep_alive)
    assert ChunkWriter(cycle).begin(200, HEAD)
    other = new_cycle(long, keep_alive=keep_alive)
    await other.send({"type": "http.response.start", "status": 200, "headers": HEAD})
    assert short.got == long.got
    for each in (cycle, other):
        await each.send({"type": "http.response.body", "body": b"end", "more_body": False})
    assert short.got == long.got
    assert not ChunkWriter(cycle).begin(200, HEAD), "there is a head already"


@pytest.mark.parametrize(
    ("method", "status", "name", "value"),
    [
        ("POST", 200, b"content-length", b"3"),
        ("POST", 200, b"Content-Length", b"3"),
        ("POST", 200, b"connection", b"close"),
        ("POST", 200, b"x-name", b"a\r\nx-other: b"),
        ("POST", 200, b"x-name", b"a\nb"),
        ("POST", 200, b"x-name\r\n", b"a"),
        ("POST", 204, b"x-name", b"a"),
        ("HEAD", 200, b"x-name", b"a"),
    ],
)
def test_other_heads_are_left_to_send(method: str, status: int, name: bytes, value: bytes) -> None:
    wire = Wire()
    cycle = new_cycle(wire, method=method)
    assert not ChunkWriter(cycle).begin(status, [*HEAD, (name, value)])
    assert wire.got == b""
    assert not cycle.response_started


async def test_a_first_piece_goes_with_the_head_in_one_write() -> None:
    together, apart = Wire(), Wire()
    assert ChunkWriter(new_cycle(together)).begin(200, HEAD, b"data: a\n\n")
    writer = ChunkWriter(new_cycle(apart))
    assert writer.begin(200, HEAD)
    assert writer.write(b"data: a\n\n")
    assert together.got == apart.got
    assert (together.writes, apart.writes) == (1, 2)
