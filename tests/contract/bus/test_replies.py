"""Reply streams: what is published is read in order, once or more, and can be read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from contract.bus.client import connect_reader
from contract.bus.clock import LEAP_MS
from contract.bus.replies import (
    ReplyStream,
    first_id,
    publish,
    read_frames,
    reply_key,
    scan_frames,
)
from contract.messages import Delta, Envelope
from contract.wire import encode_frame


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_reader(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def stream(db: Redis, unique_model: str) -> ReplyStream:
    return ReplyStream(db, unique_model)


async def scan_envelopes(
    db: Redis, reply: str, after: str, job_id: str
) -> AsyncIterator[tuple[str, Envelope]]:
    """Yield a job's envelopes, each with its entry."""
    async for entry, envelopes in scan_frames(db, reply, after):
        for envelope in envelopes:
            if envelope.job_id == job_id:
                yield entry, envelope


def _envelope(seq: int, job_id: str = "a") -> Envelope:
    return Envelope(job_id, 1, seq, Delta(f"{seq} ", b"\x01\x00\x00\x00"))


async def test_frames_are_read_in_order_from_where_the_reader_was(
    db: Redis, reader: Redis, stream: ReplyStream
) -> None:
    last = await stream.open()
    frames = [[_envelope(0), _envelope(1)], [_envelope(2)]]
    await publish(db, [(stream.key, encode_frame(frame)) for frame in frames])
    read = await read_frames(reader, stream.key, last)
    assert [envelopes for _, envelopes in read] == frames
    assert await read_frames(reader, stream.key, read[0][0], block_ms=1) == read[1:]
    assert await read_frames(reader, stream.key, read[1][0], block_ms=1) == []


async def test_a_reader_that_waits_gets_a_frame_when_it_comes(
    db: Redis, reader: Redis, stream: ReplyStream
) -> None:
    last = await stream.open()
    reading = asyncio.create_task(read_frames(reader, stream.key, last))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await publish(db, [(stream.key, encode_frame([_envelope(0)]))])
    async with asyncio.timeout(20):
        ((_, envelopes),) = await reading
    assert envelopes == [_envelope(0)]


async def test_frames_for_several_gateways_go_out_together(db: Redis, unique_model: str) -> None:
    streams = [ReplyStream(db, f"{unique_model}-{n}") for n in range(3)]
    lasts = [await stream.open() for stream in streams]
    await publish(db, [(s.key, encode_frame([_envelope(n)])) for n, s in enumerate(streams)])
    for n, (stream, last) in enumerate(zip(streams, lasts, strict=True)):
        assert [envelope async for _, envelope in scan_envelopes(db, stream.key, last, "a")] == [
            _envelope(n)
        ]


async def test_publishing_again_repeats_the_envelopes_and_their_numbers(
    db: Redis, stream: ReplyStream
) -> None:
    last = await stream.open()
    for _ in range(2):
        await publish(db, [(stream.key, encode_frame([_envelope(0), _envelope(1)]))])
    seqs = [envelope.seq async for _, envelope in scan_envelopes(db, stream.key, last, "a")]
    assert seqs == [0, 1, 0, 1]


async def test_what_is_published_to_a_gateway_long_gone_is_dropped(db: Redis) -> None:
    key = reply_key("never-opened")
    await publish(db, [(key, encode_frame([_envelope(0)]))])
    assert await db.exists(key) == 0


async def test_publishing_nothing_is_no_error(db: Redis) -> None:
    await publish(db, [])


async def test_opening_keeps_what_is_there_and_keeps_it_alive(
    db: Redis, stream: ReplyStream
) -> None:
    first = await stream.open()
    await publish(db, [(stream.key, encode_frame([_envelope(0)]))])
    await db.pexpire(stream.key, 1000)
    assert await stream.open() != first
    assert [envelope async for _, envelope in scan_envelopes(db, stream.key, first, "a")] == [
        _envelope(0)
    ]
    assert LEAP_MS < await db.pttl(stream.key) <= LEAP_MS + 300_000
    await stream.leave()
    assert 295_000 < await db.pttl(stream.key) <= 300_000


async def test_a_scan_finds_all_envelopes_of_a_job_among_those_of_others(
    db: Redis, stream: ReplyStream
) -> None:
    after = await stream.open()
    frames = [[_envelope(n), _envelope(n, "other")] for n in range(700)]
    await publish(db, [(stream.key, encode_frame(frame)) for frame in frames])
    found = [envelope async for _, envelope in scan_envelopes(db, stream.key, after, "a")]
    assert found == [_envelope(n) for n in range(700)]
    assert len([entry async for entry, _ in scan_frames(db, stream.key, after)]) == 700


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 512])
async def test_a_scan_ends_at_the_present_end_whatever_its_place(
    db: Redis, stream: ReplyStream, count: int
) -> None:
    after = await stream.open()
    await publish(db, [(stream.key, encode_frame([_envelope(n)])) for n in range(count)])
    scan = scan_envelopes(db, stream.key, after, "a")
    assert [envelope.seq async for _, envelope in scan] == list(range(count))


async def test_a_scan_says_from_which_entry_to_go_on(db: Redis, stream: ReplyStream) -> None:
    after = await stream.open()
    await publish(db, [(stream.key, encode_frame([_envelope(n)])) for n in range(3)])
    entries = [entry async for entry, _ in scan_envelopes(db, stream.key, after, "a")]
    rest = [envelope async for _, envelope in scan_envelopes(db, stream.key, entries[0], "a")]
    assert rest == [_envelope(1), _envelope(2)]
    assert [envelope.seq async for _, envelope in scan_envelopes(db, stream.key, "0", "a")] == [
        0,
        1,
        2,
    ]


async def test_trimming_forgets_old_entries_and_no_others(db: Redis, stream: ReplyStream) -> None:
    after = await stream.open()
    await publish(db, [(stream.key, encode_frame([_envelope(n)])) for n in range(1000)])
    entries = [entry async for entry, _ in scan_envelopes(db, stream.key, after, "a")]
    await stream.trim(entries[500])
    left = [envelope.seq async for _, envelope in scan_envelopes(db, stream.key, "0", "a")]
    assert left[-500:] == list(range(500, 1000))
    assert len(left) < 900


async def test_a_stream_that_is_too_large_loses_its_older_half(
    db: Redis, stream: ReplyStream
) -> None:
    await stream.open()
    frame = encode_frame([Envelope("a", 1, 0, Delta("x" * 10_000, b""))])
    await publish(db, [(stream.key, frame)] * 100)
    assert not await stream.bound(2_000_000)
    assert await db.xlen(stream.key) == 101
    assert await stream.bound(500_000)
    assert 20 <= await db.xlen(stream.key) <= 50
    assert not await stream.bound(500_000)
    assert await first_id(db, stream.key) != "0"
    assert await first_id(db, "nowhere") == "0"
