"""Commands straight to the server, past redis-py's layers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from contract.bus.connection.honest import BECAME_REPLICA, HonestConnection

Command: TypeAlias = tuple[Any, ...]


class DirectConnection:
    """One connection, for what happens once per flush or request: a command costs a tenth of the
    CPU that it takes by redis-py's client, which only connects. Commands are sent as they come,
    without waiting for the answers to those before. It connects when it is needed and is not
    connected, and never repeats a command by itself."""

    def __init__(self, make: Callable[[], HonestConnection], timeout_s: float) -> None:
        """`timeout_s`: a server that owes an answer for longer is lost."""
        self._make = make
        self._timeout_s: Final = timeout_s
        self._link: _Link | None = None
        self._opening: asyncio.Task[_Link] | None = None

    async def ask(self, *command: Any) -> Any:
        """Return the answer to one command, as it is on the wire. Raises `RedisError`."""
        answer = (await self.run([command]))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answer to each command, or its error. Raises `RedisError` if the connection
        failed: any of them may have been executed, or not. A caller may be cancelled; its commands
        are executed all the same, and one that blocks holds up those after it."""
        if not commands:
            return []
        link = self._link
        if link is None or link.is_lost:
            link = await self._connect()
        return await link.send(commands)

    def close(self) -> None:
        """Close the connection; commands without an answer fail. The next one connects again."""
        if self._link is not None:
            self._link.fail(LostConnection("the connection was closed"))
            self._link = None

    async def _connect(self) -> _Link:
        """Connect, once for all that wait for it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Link:
        connection = self._make()
        link = _Link(connection, self._timeout_s)
        try:
            await link.open()
        except BaseException:
            connection.drop()
            raise
        self._link = link
        return link

    def _opened(self, opening: asyncio.Task[_Link]) -> None:
        self._opening = None
        if not opening.cancelled():
            # Else it would be logged where all that waited for it have been cancelled.
            opening.exception()


class _Batch:
    """Commands that were sent together, and the answers that have come."""

    __slots__ = ("answers", "asked_at", "count", "done")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.count = count
        self.answers: list[Any] = []
        self.asked_at = loop.time()
        self.done: asyncio.Future[list[Any]] = loop.create_future()


class _Link(asyncio.Protocol):
    """The socket of a connection, once redis-py has connected it, until it is lost."""

    def __init__(self, connection: HonestConnection, timeout_s: float) -> None:
        self.is_lost = False
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Batch] = deque()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error
        )
        self._look: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Raises `RedisError`."""
        self._transport = await self._connection.hand_over(self)

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        if self.is_lost:
            # Between its opening and the turn of those that waited for it: nobody would answer.
            raise LostConnection("the connection was lost as soon as it was there")
        batch = _Batch(len(commands), self._loop)
        self._waiting.append(batch)
        self._transport.write(b"".join([hiredis.pack_command(each) for each in commands]))
        if self._look is None:
            self._look = self._loop.call_later(self._timeout_s, self._look_for_silence)
        return await batch.done

    def fail(self, error: RedisError) -> None:
        """Close the connection, and fail what waits for an answer."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._look is not None:
            self._look.cancel()
        self._connection.drop()
        for batch in self._waiting:
            if not batch.done.done():
                batch.done.set_exception(error)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while waiting and (answer := reader.gets()) is not False:
                if answer.__class__ is ReadOnlyError:
                    return self.fail(LostConnection(BECAME_REPLICA))
                batch = waiting[0]
                batch.answers.append(answer)
                if len(batch.answers) == batch.count:
                    waiting.popleft()
                    if not batch.done.done():
                        batch.done.set_result(batch.answers)
        except InvalidResponse as error:
            self.fail(LostConnection(f"the server's answer cannot be read: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(LostConnection(f"the connection was lost: {exc or 'the server closed it'}"))

    def _look_for_silence(self) -> None:
        """One timer for all commands: it is set again as long as some wait."""
        self._look = None
        if self._waiting:
            left_s = self._waiting[0].asked_at + self._timeout_s - self._loop.time()
            if left_s <= 0:
                self.fail(RedisTimeout("the server does not answer"))
            else:
                self._look = self._loop.call_later(left_s, self._look_for_silence)
