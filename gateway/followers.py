"""Answers to jobs that another request put: read from that request's reply stream, from the
job's first event on, be it of this gateway process, another one, or one that is dead."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import Final

from redis.exceptions import RedisError

from contract.bus.client import RedisClient, connect_reader
from contract.bus.heartbeats import BEAT_EVERY_S, GATEWAYS, Heartbeats
from contract.bus.queue import Ticket
from contract.bus.replies import ReplyStream, read_frames, reply_key
from contract.messages import ErrorCode, GatewayBeat
from contract.tasks import cancel_and_wait
from gateway.dispatcher import Dispatcher
from gateway.errors import ApiError
from gateway.reply import Reply

log = logging.getLogger(__name__)
#: Each has a connection of its own, and reads all that its gateway process was sent.
MOST_FOLLOWERS: Final = 64
_BLOCK_MS: Final = 1_000
_RETRY_S: Final = 0.25


class _Stream:
    """Another request's reply stream. While it is followed it stays, and so do its jobs, even
    if the process that it belongs to is dead."""

    def __init__(self, db: RedisClient, key: str) -> None:
        self._db = db
        self._key = key
        self._name = key.removeprefix(reply_key(""))
        self._looked = time.monotonic()
        self._adopted = False

    async def exists(self) -> bool:
        """False once nothing can be read from it any more. Raises `RedisError`."""
        if time.monotonic() - self._looked < BEAT_EVERY_S:
            return True
        self._looked = time.monotonic()
        if not await self._db.exists(self._key):
            return False
        heartbeats = Heartbeats(self._db, GATEWAYS)
        if self._adopted or self._name not in await heartbeats.names():
            self._adopted = True
            await ReplyStream(self._db, self._name).open()
            beat = GatewayBeat(self._name, socket.gethostname(), os.getpid(), index=-1)
            await heartbeats.beat(self._name, beat, ready=False)
        return True


class Followers:
    """The tasks that follow."""

    def __init__(self, db: RedisClient, redis_url: str, dispatcher: Dispatcher) -> None:
        self._db = db
        self._redis_url = redis_url
        self._dispatcher = dispatcher
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, reply: Reply, ticket: Ticket) -> None:
        """Answer from where the ticket points to. Raises `ApiError` if too many do."""
        if len(self._tasks) >= MOST_FOLLOWERS:
            raise ApiError("too_many_resumes", "too many answers are being resumed")
        self._dispatcher.follow(reply)
        task = asyncio.create_task(self._follow(reply, ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop all of them."""
        await cancel_and_wait(self._tasks)

    async def _follow(self, reply: Reply, ticket: Ticket) -> None:
        reader = connect_reader(self._redis_url)
        stream = _Stream(self._db, ticket.reply)
        last = ticket.first
        try:
            while not reply.ended:
                try:
                    last = await self._read(reader, reply, ticket.reply, last)
                    readable = await stream.exists()
                except (RedisError, OSError) as error:
                    log.debug("job %s: reading again: %s", reply.job_id, error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                if not readable and not reply.ended:
                    error_ = ApiError(ErrorCode.LOST.value, "the answer is no longer kept")
                    self._dispatcher.fail(reply, error_)
        finally:
            await reader.aclose()

    async def _read(self, reader: RedisClient, reply: Reply, key: str, last: str) -> str:
        """Hand on what comes after entry `last`; answers the entry that is last now."""
        frames = await read_frames(reader, key, last, block_ms=_BLOCK_MS)
        letters = [letter for _, letters in frames for letter in letters]
        self._dispatcher.hand_out(letters, {reply.job_id: reply}.get)
        return frames[-1][0] if frames else last
