"""Reply streams: frames of envelopes to one gateway process, and so the durable log of answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final

from redis.exceptions import OutOfMemoryError

from contract.bus.client import BLOCK_MS, LuaScript, RedisClient, last_id, mapping_of, raised
from contract.bus.clock import LEAP_MS
from contract.messages import UNREADABLE, Envelope
from contract.wire import EnvelopeParts, decode_parts, encode_frame

log = logging.getLogger(__name__)

#: How long a dead gateway's replies can still be read.
KEEP_MS: Final = 300_000
_SCAN_AT_ONCE: Final = 256
_publish_though_full = LuaScript("publish", even_if_full=True)


def reply_key(gateway: str) -> str:
    """Return the reply stream of a gateway process."""
    return f"ew:out:{gateway}"


def entry_order(entry: str) -> tuple[int, int]:
    """Entry ids are milliseconds and a number."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


class ReplyStream:
    """The frames for one gateway process."""

    def __init__(self, db: RedisClient, gateway: str) -> None:
        self.db = db
        self.key = reply_key(gateway)

    async def open(self) -> str:
        """Make the stream, or keep it alive; answers the id of its last entry.

        Workers never make it: what they publish after its gateway is long gone is dropped.
        """
        if not await self.db.exists(self.key):
            await self.db.xadd(self.key, {b"f": encode_frame([])})
        await self.db.pexpire(self.key, KEEP_MS + LEAP_MS)
        return await last_id(self.db, self.key)

    async def leave(self) -> None:
        """Its gateway process is gone: keep what is there for clients that come back for it."""
        await self.db.pexpire(self.key, KEEP_MS)

    async def trim(self, before: str) -> None:
        """Forget the entries before id `before`."""
        await self.db.execute_command("XTRIM", self.key, "MINID", "~", before)

    async def bound(self, most_bytes: int) -> bool:
        """Forget the older half if all of it takes more than so many bytes. True if it did: a
        reader from before what is left finds that the beginning is missing."""
        size = await self.db.execute_command("MEMORY", "USAGE", self.key, "SAMPLES", 64) or 0
        if size <= most_bytes:
            return False
        entries = await self.db.xlen(self.key) * most_bytes // (2 * size)
        await self.db.execute_command("XTRIM", self.key, "MAXLEN", "~", max(1, entries))
        return True


async def first_id(db: RedisClient, reply: str) -> str:
    """Return the oldest entry of a reply stream, `0` if there is none."""
    entries = await db.xrange(reply, count=1)
    return entries[0][0].decode() if entries else "0"


async def publish(db: RedisClient, frames: Iterable[tuple[str, bytes]]) -> None:
    """Append each frame to its reply stream, in one round trip. Raises `RedisError`; it is
    safe to publish the same frames again, readers drop sequence numbers they have seen."""
    given = list(frames)
    commands = [("XADD", reply, "NOMKSTREAM", "*", "f", frame) for reply, frame in given]
    answers = await db.direct.run(commands)
    if any(isinstance(answer, OutOfMemoryError) for answer in answers):
        answers = await _publish_though_full.map(db, [([reply], [each]) for reply, each in given])
    raised(answers)


async def read_frames(
    reader: RedisClient,
    reply: str,
    last: str,
    *,
    block_ms: int = BLOCK_MS,
    count: int = 64,
    on_unreadable: Callable[[], None] = lambda: None,
) -> list[tuple[str, list[EnvelopeParts]]]:
    """Wait for the frames after entry `last`, `count` at most; each with its entry id. Never
    cancel this call.

    A frame that cannot be read is logged and has no envelopes: the answers that it belonged to
    end with their next envelope, whose sequence number shows the gap, or by their timeouts.
    `on_unreadable` is called for each.
    """
    answer = await reader.direct.ask(
        "XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", reply, last
    )
    entries = [(entry.decode(), mapping_of(flat)) for entry, flat in answer[0][1]] if answer else []
    return [(entry, _parts(reply, entry, fields, on_unreadable)) for entry, fields in entries]


async def scan_frames(
    db: RedisClient, reply: str, after: str
) -> AsyncIterator[tuple[str, list[Envelope]]]:
    """Yield the frames in a reply stream, after entry `after` and up to its present end."""
    while True:
        entries = await db.xrange(reply, f"({after}", count=_SCAN_AT_ONCE)
        for entry, fields in entries:
            after = entry.decode()
            yield after, [Envelope(*parts) for parts in _parts(reply, after, fields)]
        if len(entries) < _SCAN_AT_ONCE:
            return


def _parts(
    reply: str,
    entry: str,
    fields: Mapping[bytes, bytes],
    on_unreadable: Callable[[], None] = lambda: None,
) -> list[EnvelopeParts]:
    try:
        return decode_parts(fields[b"f"])
    except (KeyError, *UNREADABLE) as error:
        log.error("skipping frame %s of %s, which cannot be read: %r", entry, reply, error)
        on_unreadable()
        return []
