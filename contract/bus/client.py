"""Clients of Redis (or Valkey), and Lua scripts called by digest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, proxy

from redis.asyncio import BlockingConnectionPool, Redis, from_url
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import NoScriptError, RedisError

from contract.bus.gathered_calls import GatheredCalls

#: The longest that a reader waits in one command; half-open connections show after it.
BLOCK_MS: Final = 5_000
_SOCKET_TIMEOUT_S: Final = BLOCK_MS / 1000 + 2
#: A `Redis`: its own types give every reply as the union of all protocols' shapes.
RedisClient: TypeAlias = Any
_SCRIPTS: Final = Path(__file__).parent / "scripts"


class _Honest(AbstractConnection):
    """A connection that fails by `RedisError` alone. redis-py passes a `RuntimeError` of the event
    loop on: uvloop raises one when a peer that had accepted has reset the connection meanwhile.
    This is the one place that says which errors mean that the connection failed."""

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise LostConnection(str(error)) from error

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().send_packed_command(*args, **kwargs)
        except RuntimeError as error:
            raise LostConnection(str(error)) from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except RuntimeError as error:
            raise LostConnection(str(error)) from error

    async def can_read(self) -> bool:
        try:
            return bool(await super().can_read())
        except RuntimeError as error:
            raise LostConnection(str(error)) from error


class _Tcp(_Honest, Connection):
    pass


class _Tls(_Honest, SSLConnection):
    pass


class _Unix(_Honest, UnixDomainSocketConnection):
    pass


_HONEST: Final = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def connect(url: str, *, connections: int = 16) -> Redis:
    """Return a client for short commands. It does not retry: a lost reply to a write would repeat
    it.

    Raises `redis.RedisError` (from its commands) when the server is away.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=5,
        protocol=2,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
    )
    pool.connection_class = _HONEST[pool.connection_class]
    return Redis.from_pool(pool)


def connect_reader(url: str) -> Redis:
    """Return a client for one blocking reader. Its commands must never be cancelled: what the
    server had already delivered would be lost."""
    client = from_url(
        url,
        single_connection_client=True,
        protocol=2,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
    )
    pool = client.connection_pool
    pool.connection_class = _HONEST[pool.connection_class]
    return client


class LuaScript:
    """A Lua script by its digest, loaded again whenever the server has forgotten it. The
    functions of `others`, which only define some, come before it."""

    def __init__(self, name: str, *others: str) -> None:
        files = [_SCRIPTS / f"{each}.lua" for each in (*others, name)]
        self.source = "".join(file.read_text() for file in files)
        self.digest = ""
        self._gathering: WeakKeyDictionary[RedisClient, GatheredCalls] = WeakKeyDictionary()

    async def __call__(self, db: RedisClient, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return (await self.map(db, [(keys, args)]))[0]

    async def gathered(self, db: RedisClient, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """The same; what is asked for while a round trip is under way shares the next one. Raises
        `TimeoutError`, too: as when the caller is cancelled, the script may have run or may yet."""
        calls = self._gathering.get(db)
        if calls is None:
            calls = self._gathering[db] = GatheredCalls(partial(self._run_all, proxy(db)))
        return await calls.ask((keys, args))

    async def map(
        self, db: RedisClient, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """Run the script once per (keys, args), in one round trip. Raises the first error."""
        answers = await self._run_all(db, calls)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _run_all(
        self, db: RedisClient, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """Return the outcome of each call: an answer, or its error."""
        if not self.digest:
            self.digest = await db.script_load(self.source)
        answers = await self._pipeline(db, calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await db.script_load(self.source)
            missed = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            again = await self._pipeline(db, [calls[i] for i in missed])
            for i, answer in zip(missed, again, strict=True):
                answers[i] = answer
        return answers

    async def _pipeline(
        self, db: RedisClient, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        pipe = db.pipeline(transaction=False)
        for keys, args in calls:
            pipe.execute_command("EVALSHA", self.digest, len(keys), *keys, *args)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers


async def wait_for_server(db: RedisClient, timeout_s: float) -> None:
    """Return once the server answers. Raises the last `RedisError` after `timeout_s`."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            await db.ping()
            return
        except RedisError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.05)


async def last_id(db: RedisClient, key: str) -> str:
    """Return the id of a stream's last entry, `0` if it has none."""
    entries = await db.xrevrange(key, count=1)
    return entries[0][0].decode() if entries else "0"


def entries_of(answer: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """Return the entries in redis-py's answer to XREAD or XREADGROUP of one stream; those
    deleted meanwhile have no fields and are left out."""
    if not answer:
        return []
    return [(entry.decode(), fields) for entry, fields in answer[0][1] if fields]
