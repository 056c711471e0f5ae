"""Answers to jobs that another request put: read from that request's reply stream, from the
job's first event on, be it of this gateway process, another one, or one that is dead."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient, connect_reader
from contract.bus.heartbeats import BEAT_EVERY_S, GATEWAYS, Heartbeats
from contract.bus.replies import ReplyStream, entry_order, read_frames, reply_key
from contract.bus.tickets import Ticket
from contract.messages import Envelope, ErrorCode, GatewayBeat
from contract.process.tasks import cancel_and_wait
from gateway.http.errors import ApiError
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.reply import Reply

log = logging.getLogger(__name__)
#: Each has a connection of its own.
MOST_STREAMS: Final = 64
MOST_REPLIES: Final = 8192
#: So that one key's clients leave room for others.
MOST_REPLIES_OF_A_KEY: Final = MOST_REPLIES // 2
#: A reply that joins waits for the reader so long.
_BLOCK_MS: Final = 100
_RETRY_S: Final = 0.25
#: Each may hold an envelope for every reply.
_FRAMES_AT_ONCE: Final = 16
_ENVELOPES_AT_ONCE: Final = 256


class Replays:
    """The reply streams that are followed, each by one reader, however many replies it serves."""

    def __init__(self, db: RedisClient, redis_url: str, dispatcher: Dispatcher) -> None:
        self._db = db
        self._redis_url = redis_url
        self._dispatcher = dispatcher
        self._followed: dict[str, FollowedStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, reply: Reply, ticket: Ticket) -> None:
        """Answer from where the ticket points to. Raises `ApiError` if too many do."""
        self._check_room(reply, ticket)
        self._dispatcher.follow(reply)
        stream = self._followed.get(ticket.reply)
        if stream is None:
            stream = FollowedStream(self._db, self._redis_url, ticket.reply, self._dispatcher)
            self._followed[ticket.reply] = stream
            task = asyncio.create_task(self._run(stream))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        stream.join(reply, ticket.first)

    async def close(self) -> None:
        """Stop all of them."""
        await cancel_and_wait(self._tasks)

    def _check_room(self, reply: Reply, ticket: Ticket) -> None:
        replies = [reply for stream in self._followed.values() for reply in stream.replies]
        own = sum(other.key_id == reply.key_id for other in replies)
        if (
            (ticket.reply not in self._followed and len(self._followed) >= MOST_STREAMS)
            or len(replies) >= MOST_REPLIES
            or own >= MOST_REPLIES_OF_A_KEY
        ):
            raise ApiError("too_many_resumes", "too many answers are being resumed")

    async def _run(self, stream: FollowedStream) -> None:
        try:
            await stream.run()
        except Exception:
            log.exception("a reply stream that was followed is given up")
            stream.fail(ApiError("internal_error", "the answer could not be read"))
        finally:
            # No await since `run` found no reply left: none can have joined since.
            del self._followed[stream.key]


class FollowedStream:
    """Another request's reply stream. While it is followed it stays, and so do its jobs, even if
    the process that it belongs to is dead.

    One reader serves all: replies that join are caught up together, in one pass over what was
    published before, slice by slice between the reads for those that listen already. Then they
    listen, too. An envelope that comes twice is dropped by its sequence number.
    """

    def __init__(self, db: RedisClient, redis_url: str, key: str, dispatcher: Dispatcher) -> None:
        self.key = key
        self._db = db
        self._reader = connect_reader(redis_url)
        self._dispatcher = dispatcher
        self._name = key.removeprefix(reply_key(""))
        self._joining: list[tuple[Reply, str]] = []
        self._catching_up: list[Reply] = []
        self._listening: list[Reply] = []
        #: The entries up to which replies were served that catch up, and that listen.
        self._caught_up = self._heard = ""
        self._looked = time.monotonic()
        self._adopted = False

    @property
    def replies(self) -> list[Reply]:
        """All that it serves."""
        joining = [reply for reply, _ in self._joining]
        return [*joining, *self._catching_up, *self._listening]

    def join(self, reply: Reply, first: str) -> None:
        """Serve a reply from after entry `first` on."""
        self._joining.append((reply, first))

    def fail(self, error: ApiError) -> None:
        """End all replies with an error."""
        for reply in self.replies:
            self._dispatcher.fail(reply, error)

    async def run(self) -> None:
        """Serve until no reply is left."""
        try:
            while self.replies:
                await self._serve()
                self._forget_ended()
        finally:
            await self._reader.aclose()

    async def _serve(self) -> None:
        """Do one round for all replies."""
        try:
            await self._catch_up()
            if self._listening:
                block_ms = 1 if self._catching_up else _BLOCK_MS
                self._heard = await self._hand_on(self._listening, self._heard, block_ms)
            if not await self._exists():
                self.fail(ApiError(ErrorCode.LOST.value, "the answer is no longer kept"))
        except (RedisError, OSError) as error:
            log.debug("%s: reading again: %s", self.key, error)
            await asyncio.sleep(_RETRY_S)

    async def _catch_up(self) -> None:
        if not self._catching_up and self._joining:
            self._caught_up = min((first for _, first in self._joining), key=entry_order)
            self._catching_up = [reply for reply, _ in self._joining]
            self._joining = []
        if self._catching_up:
            before = self._caught_up
            self._caught_up = await self._hand_on(self._catching_up, before, block_ms=1)
            if self._caught_up == before:
                self._heard = self._heard if self._listening else before
                self._listening += self._catching_up
                for reply in self._catching_up:
                    reply.is_current = True
                self._catching_up = []

    async def _hand_on(self, replies: list[Reply], after: str, block_ms: int) -> str:
        """Hand on what comes after an entry; answers the entry that is last now."""
        frames = await read_frames(
            self._reader, self.key, after, block_ms=block_ms, count=_FRAMES_AT_ONCE
        )
        layers = _layers(replies)
        envelopes = (envelope for _, envelopes in frames for envelope in envelopes)
        for some in _slices(envelope for envelope in envelopes if envelope.job_id in layers[0]):
            for by_job in layers:
                self._dispatcher.hand_out(some, by_job.get)
            # Answers beside these have their turn.
            await asyncio.sleep(0)
        return frames[-1][0] if frames else after

    def _forget_ended(self) -> None:
        self._joining = [(reply, first) for reply, first in self._joining if not reply.ended]
        self._catching_up = [reply for reply in self._catching_up if not reply.ended]
        self._listening = [reply for reply in self._listening if not reply.ended]

    async def _exists(self) -> bool:
        """False once nothing can be read from it any more. Raises `RedisError`."""
        if time.monotonic() - self._looked < BEAT_EVERY_S:
            return True
        self._looked = time.monotonic()
        if not await self._db.exists(self.key):
            return False
        heartbeats = Heartbeats(self._db, GATEWAYS)
        if self._adopted or self._name not in await heartbeats.names():
            self._adopted = True
            await ReplyStream(self._db, self._name).open()
            beat = GatewayBeat(self._name, socket.gethostname(), os.getpid(), index=-1)
            await heartbeats.beat(self._name, beat, ready=False)
        return True


def _slices(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Envelopes in portions that are handed out in a few milliseconds; all of a job's in one, so
    that they become one write."""
    by_job: dict[str, list[Envelope]] = defaultdict(list)
    for envelope in envelopes:
        by_job[envelope.job_id].append(envelope)
    some: list[Envelope] = []
    for of_job in by_job.values():
        some += of_job
        if len(some) >= _ENVELOPES_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _layers(replies: list[Reply]) -> list[dict[str, Reply]]:
    """Replies by job id, in as many layers as there are replies to one job."""
    layers: list[dict[str, Reply]] = []
    for reply in replies:
        free = next((layer for layer in layers if reply.job_id not in layer), None)
        if free is None:
            layers.append(free := {})
        free[reply.job_id] = reply
    return layers
