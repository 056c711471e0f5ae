"""Frames: envelopes on their way to gateways, published also on a server that has lost some.

A Valkey that is killed has lost what it had acknowledged and not yet written to its file: while the
disk is busy, it waits for up to two seconds with writing. An answer with such a hole could not go
on with another worker. So the frames of the last seconds go out again after a failure; readers drop
what they have seen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

from redis.asyncio import Redis

from contract.bus.replies import publish
from contract.messages import Envelope
from contract.wire import encode_frame

#: Larger frames would make Redis and the gateway stall on one command. (An envelope that is larger
#: by itself is a frame of its own.)
_LARGEST_FRAME_BYTES = 256 * 1024
_MOST_ENVELOPES = 4096
#: Frames with their reply streams.
Frames: TypeAlias = list[tuple[str, bytes]]
_WRITTEN_WITHIN_S: Final = 3.0


class FramePublisher:
    """Appends frames, in order."""

    def __init__(self, db: Redis) -> None:
        self._db = db
        #: Of the last seconds before the newest, each with its time (monotonic).
        self._recent: deque[tuple[float, str, bytes]] = deque()
        self._has_failed = False

    async def append(self, frames: Frames) -> None:
        """Publish these; after a failure, the recent ones before them. Raises `RedisError`; call it
        again with the same ones then."""
        again = [(reply, frame) for _, reply, frame in self._recent] if self._has_failed else []
        self._has_failed = True
        await publish(self._db, [*again, *frames])
        self._has_failed = False
        self._keep(frames)

    def _keep(self, frames: Frames) -> None:
        now = time.monotonic()
        self._recent.extend((now, reply, frame) for reply, frame in frames)
        while self._recent[0][0] < now - _WRITTEN_WITHIN_S:
            self._recent.popleft()


def frames_of(envelopes: list[Envelope]) -> Iterator[bytes]:
    """Envelopes in frames that are not too large, in order."""
    frame = encode_frame(envelopes) if len(envelopes) <= _MOST_ENVELOPES else b""
    if len(envelopes) == 1 or 0 < len(frame) <= _LARGEST_FRAME_BYTES:
        yield frame
    else:
        half = len(envelopes) // 2
        yield from frames_of(envelopes[:half])
        yield from frames_of(envelopes[half:])
