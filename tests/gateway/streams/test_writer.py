"""Writing to a client that may not read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.headers import FIRST_PIECE
from gateway.streams.sse import event, json_text
from gateway.streams.writer import MAX_BUFFERED_BYTES, Client, SlowClient, Writer


class Reader:
    """A client that can stop reading, and the server's `send` for it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.heads = 0
        self.is_complete = False
        self.aborted = False
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message: dict[str, object]) -> None:  # type: ignore[override]
        if not self.reads.is_set():
            await self.reads.wait()
        if message["type"] == "http.response.start":
            self.heads += 1
        else:
            body = message["body"]
            assert isinstance(body, bytes)
            self.got.append(body)
            self.is_complete = not message["more_body"]

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def writer(reader: Reader) -> Writer:
    new = Writer()
    new.open(200, [])
    new.attach(Client(reader.send, reader.send, reader.abort))
    return new


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_can_be_sent_is_sent_without_a_task(writer: Writer, reader: Reader) -> None:
    tasks = asyncio.all_tasks()
    writer.write(b"a")
    writer.write(b"b")
    writer.flush()
    assert (reader.heads, reader.got) == (1, [b"ab"])
    writer.write(b"c")
    writer.close()
    writer.flush()
    writer.flush()
    assert reader.got == [b"ab", b"c"]
    assert reader.is_complete
    assert asyncio.all_tasks() == tasks


async def test_pieces_go_the_short_way_and_the_end_through_the_server(reader: Reader) -> None:
    written: list[bytes] = []
    may_write = True

    def write(body: bytes) -> bool:
        if may_write:
            written.append(body)
        return may_write

    writer = Writer()
    writer.open(200, [])
    writer.write(b"a")
    writer.attach(Client(reader.send, reader.send, reader.abort, write))
    assert (reader.heads, reader.got, written) == (1, [], [b"a"])
    may_write = False
    reader.reads.clear()
    for part in (b"b", b"c"):
        writer.write(part)
        writer.flush()
    assert writer.is_blocked
    may_write = True
    writer.write(b"d")
    writer.flush()
    assert (reader.got, written) == ([], [b"a"])
    reader.reads.set()
    await settle()
    assert (reader.got, written) == ([b"b"], [b"a", b"cd"])
    writer.write(b"e")
    writer.close()
    writer.flush()
    assert (reader.got, reader.is_complete) == ([b"b", b"e"], True)


async def test_nothing_is_lost_or_reordered_while_the_client_does_not_read(
    writer: Writer, reader: Reader
) -> None:
    reader.reads.clear()
    for part in (b"a", b"b", b"c"):
        writer.write(part)
        writer.flush()
    assert writer.is_blocked
    assert reader.got == []
    reader.reads.set()
    await settle()
    assert not writer.is_blocked
    assert b"".join(reader.got) == b"abc"
    writer.write(b"d")
    writer.close()
    writer.flush()
    assert b"".join(reader.got) == b"abcd"
    assert reader.is_complete


async def test_an_answer_may_be_written_before_its_client_is_attached(reader: Reader) -> None:
    writer = Writer()
    writer.open(200, [])
    writer.write(b"a")
    writer.close()
    writer.flush()
    writer.attach(Client(reader.send, reader.send, reader.abort))
    assert (reader.heads, reader.got, reader.is_complete) == (1, [b"a"], True)


async def test_an_empty_answer_ends_too(writer: Writer, reader: Reader) -> None:
    writer.close()
    writer.flush()
    assert (reader.got, reader.is_complete) == ([b""], True)


async def test_too_much_for_a_slow_client_is_an_error_and_its_last_words_replace_it(
    writer: Writer, reader: Reader
) -> None:
    reader.reads.clear()
    writer.write(b"first")
    writer.flush()
    with pytest.raises(SlowClient):
        for _ in range(MAX_BUFFERED_BYTES // 1000 + 2):
            writer.write(b"x" * 1000)
            writer.flush()
    writer.cut(b"too slow")
    reader.reads.set()
    await settle()
    assert reader.got == [b"first", b"too slow"]
    assert reader.is_complete
    assert not reader.aborted


@given(st.text())
def test_any_text_survives_an_event(text: str) -> None:
    """Also for readers that end lines wherever Unicode does."""
    encoded = json_text(text)
    assert json.loads(encoded) == text
    lines = event(encoded, name="x").decode().splitlines()
    assert lines == ["event: x", f"data: {encoded.decode()}", ""]
    assert event(orjson.dumps(text), name="x").decode().splitlines() == lines


@pytest.mark.parametrize("takes_it", [True, False])
async def test_the_first_piece_is_sent_once_with_the_head_or_behind_it(
    reader: Reader, *, takes_it: bool
) -> None:
    with_head: list[bytes] = []

    async def send_head(message: dict[str, Any]) -> None:
        await reader.send(message)
        if takes_it:
            with_head.append(message.pop(FIRST_PIECE))

    writer = Writer()
    writer.attach(Client(send_head, reader.send, reader.abort))
    writer.open(200, [])
    writer.write(b"a")
    writer.write(b"b")
    writer.flush()
    assert (with_head, reader.got) == (([b"ab"], []) if takes_it else ([], [b"ab"]))
    writer.write(b"c")
    writer.close()
    writer.flush()
    assert b"".join(with_head + reader.got) == b"abc"
    assert reader.is_complete


async def test_what_ends_at_once_is_no_first_piece(reader: Reader) -> None:
    async def send_head(message: dict[str, Any]) -> None:
        assert FIRST_PIECE not in message
        await reader.send(message)

    writer = Writer()
    writer.attach(Client(send_head, reader.send, reader.abort))
    writer.open(200, [])
    writer.write(b"a")
    writer.close()
    writer.flush()
    assert reader.got == [b"a"]
    assert reader.is_complete
