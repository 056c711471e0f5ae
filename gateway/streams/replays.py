"""Answers to jobs that another request put: read from that request's reply stream, from the
job's first event on, be it of this gateway process, another one, or one that is dead."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient, connect_reader
from contract.bus.heartbeats import BEAT_EVERY_S, GATEWAYS, Heartbeats
from contract.bus.replies import ReplyStream, entry_order, read_frames, reply_key
from contract.bus.tickets import Ticket
from contract.gateway_beat import ADOPTED, GatewayBeat
from contract.messages import ErrorCode
from contract.process.host_name import host_name
from contract.process.tasks import cancel_and_wait
from gateway.http.errors import ApiError
from gateway.http.turnstile import AT_ONCE
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.reply import Reply
from gateway.streams.reply_group import ReplyGroup, portions

log = logging.getLogger(__name__)
#: Each has a connection of its own.
MOST_STREAMS: Final = 64
MOST_REPLIES: Final = 8192
#: So that one key's clients leave room for others.
MOST_REPLIES_OF_A_KEY: Final = MOST_REPLIES // 2
#: A reply that joins waits for the reader so long.
_BLOCK_MS: Final = 100
_RETRY_S: Final = 0.25
#: To decode them takes a few milliseconds, in which answers beside these wait. A frame may hold an
#: envelope for every reply.
_ENVELOPES_PER_READ: Final = 4096
_MOST_FRAMES_PER_READ: Final = 64
#: A client that waits for longer than that hears so, and how long it may take.
_TELL_AFTER_S: Final = 1.0


class Replays:
    """The reply streams that are followed, each by one reader, however many replies it serves."""

    def __init__(self, db: RedisClient, redis_url: str, dispatcher: Dispatcher) -> None:
        self._db = db
        self._redis_url = redis_url
        self._dispatcher = dispatcher
        self._followed: dict[str, FollowedStream] = {}
        #: How many replies are followed, by API key.
        self._replies: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, reply: Reply, ticket: Ticket) -> None:
        """Answer from where the ticket points to, unless all of the answer has come already. Raises
        `ApiError` if too many do."""
        if reply.ended:
            return
        self._check_room(reply, ticket)
        self._dispatcher.follow(reply)
        self._replies[reply.key_id] += 1
        stream = self._followed.get(ticket.reply)
        if stream is None:
            stream = FollowedStream(
                self._db, self._redis_url, ticket.reply, self._dispatcher, self._ended
            )
            self._followed[ticket.reply] = stream
            task = asyncio.create_task(self._run(stream))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        stream.join(reply, ticket.first)

    async def close(self) -> None:
        """Stop all of them."""
        await cancel_and_wait(self._tasks)

    def _check_room(self, reply: Reply, ticket: Ticket) -> None:
        if (
            (ticket.reply not in self._followed and len(self._followed) >= MOST_STREAMS)
            or self._replies.total() >= MOST_REPLIES
            or self._replies[reply.key_id] >= MOST_REPLIES_OF_A_KEY
        ):
            raise ApiError("too_many_resumes", "too many answers are being resumed")

    def _ended(self, reply: Reply) -> None:
        self._replies[reply.key_id] -= 1
        if not self._replies[reply.key_id]:
            del self._replies[reply.key_id]

    async def _run(self, stream: FollowedStream) -> None:
        try:
            await stream.run()
        except Exception:
            log.exception("a reply stream that was followed is given up")
            stream.fail(ApiError("internal_error", "the answer could not be read"))
        finally:
            # No await since `run` found no reply left: none can have joined since.
            del self._followed[stream.key]
            await stream.close()


class FollowedStream:
    """Another request's reply stream. While it is followed it stays, and so do its jobs, even if
    the process that it belongs to is dead.

    One reader serves all: replies that join are caught up together, in one pass over what was
    published before, slice by slice between the reads for those that listen already. Then they
    listen, too. Those that come meanwhile wait for the next pass: first come, first served. An
    envelope that comes twice is dropped by its sequence number.
    """

    def __init__(
        self,
        db: RedisClient,
        redis_url: str,
        key: str,
        dispatcher: Dispatcher,
        on_end: Callable[[Reply], None],
    ) -> None:
        self.key = key
        self._db = db
        self._reader = connect_reader(redis_url)
        self._dispatcher = dispatcher
        self._name = key.removeprefix(reply_key(""))
        self._joining = ReplyGroup(on_end)
        self._firsts: list[str] = []
        self._catching_up = ReplyGroup(on_end)
        self._listening = ReplyGroup(on_end)
        #: The entries up to which replies were served that catch up, and that listen.
        self._caught_up = self._heard = ""
        self._frames_per_read = 1
        #: When this pass began, and how long the last one took.
        self._pass_began = 0.0
        self._pass_s: float | None = None
        self._looked = self._told = time.monotonic()
        self._adopted = False

    def join(self, reply: Reply, first: str) -> None:
        """Serve a reply from after entry `first` on."""
        reply.position = len(self._joining) + len(self._catching_up)
        self._joining.add([reply])
        self._firsts.append(first)

    def fail(self, error: ApiError) -> None:
        """End all replies with an error."""
        for group in (self._joining, self._catching_up, self._listening):
            for reply in group.replies:
                self._dispatcher.fail(reply, error)
            group.forget_ended()

    async def run(self) -> None:
        """Serve until no reply is left."""
        while self._joining or self._catching_up or self._listening:
            await self._serve()
            for group in (self._joining, self._catching_up, self._listening):
                group.forget_ended()

    async def close(self) -> None:
        """Close its connection. A reply that joins now is served no more."""
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
        now = time.monotonic()
        if not self._catching_up and self._joining:
            self._caught_up = min(self._firsts, key=entry_order)
            self._catching_up.add(self._joining.take())
            self._firsts = []
            self._pass_began = now
        if self._catching_up:
            await self._tell_how_long(now)
            before = self._caught_up
            self._caught_up = await self._hand_on(self._catching_up, before, block_ms=1)
            if self._caught_up == before:
                self._pass_s = time.monotonic() - self._pass_began
                self._heard = self._heard if self._listening else before
                for reply in self._catching_up.replies:
                    reply.is_current = True
                self._listening.add(self._catching_up.take())

    async def _tell_how_long(self, now: float) -> None:
        """Of this pass, and of the next one, as long as the last took. To tell the first time costs
        as much as to begin an answer, so others have turns between."""
        if now - self._told < _TELL_AFTER_S:
            return
        self._told, last_s = now, self._pass_s
        this_s = None if last_s is None else max(0.0, last_s - (now - self._pass_began))
        next_s = None if this_s is None or last_s is None else this_s + last_s
        for group, eta_s in ((self._catching_up, this_s), (self._joining, next_s)):
            for number, reply in enumerate(list(group.replies)):
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
                waits = not (reply.ended or reply.goes_on)
                if waits and now - reply.began >= _TELL_AFTER_S:
                    reply.wait("resuming", eta_s, now)
                    self._dispatcher.flush([reply])

    async def _hand_on(self, group: ReplyGroup, after: str, block_ms: int) -> str:
        """Hand on what comes after an entry; answers the entry that is last now."""
        frames = await read_frames(
            self._reader, self.key, after, block_ms=block_ms, count=self._frames_per_read
        )
        if not frames:
            return after
        count = sum(len(envelopes) for _, envelopes in frames)
        fitting = _ENVELOPES_PER_READ * len(frames) // max(1, count)
        self._frames_per_read = max(1, min(_MOST_FRAMES_PER_READ, fitting))
        layers = group.layers()
        envelopes = (envelope for _, envelopes in frames for envelope in envelopes)
        for some in portions(envelope for envelope in envelopes if envelope[0] in layers[0]):
            for by_job in layers:
                self._dispatcher.hand_out(some, by_job.get)
            # Answers beside these have their turn.
            await asyncio.sleep(0)
        return frames[-1][0]

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
            beat = GatewayBeat(self._name, host_name(), os.getpid(), index=ADOPTED)
            await heartbeats.beat(self._name, beat, ready=False)
        return True
