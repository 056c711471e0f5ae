"""Clients of Redis (or Valkey), and Lua scripts called by digest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from contract.bus.connection.direct import Command, DirectConnection
from contract.bus.connection.following import FOLLOWING
from contract.bus.connection.gathered_calls import MOST_AT_ONCE
from contract.bus.connection.honest import HONEST
from contract.bus.connection.url import sentinel_url

#: The longest that a reader waits in one command; half-open connections show after it.
BLOCK_MS: Final = 5_000
_SOCKET_TIMEOUT_S: Final = BLOCK_MS / 1000 + 2
#: A `Redis`: its own types give every reply as the union of all protocols' shapes.
RedisClient: TypeAlias = Any
T = TypeVar("T")
_SCRIPTS: Final = Path(__file__).parent / "scripts"


class BusClient(Redis):
    """A client, and beside it a connection for what happens once per flush or request."""

    def __init__(self, pool: ConnectionPool, *, single_connection: bool = False) -> None:
        super().__init__(connection_pool=pool, single_connection_client=single_connection)
        self.auto_close_connection_pool = True
        self.direct = DirectConnection(pool.make_connection, _SOCKET_TIMEOUT_S)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        self.direct.close()
        await super().aclose(close_connection_pool)


def connect(url: str, *, connections: int = 16) -> BusClient:
    """Return a client for short commands. It does not retry: a lost reply to a write would repeat
    it.

    Raises `redis.RedisError` (from its commands) when the server is away.
    """
    pool = _pool(BlockingConnectionPool, url, max_connections=connections, timeout=5)
    return BusClient(pool)


def connect_reader(url: str) -> BusClient:
    """Return a client for one blocking reader. Its commands must never be cancelled: what the
    server had already delivered would be lost."""
    return BusClient(_pool(ConnectionPool, url), single_connection=True)


def _pool(kind: type[ConnectionPool], url: str, **options: Any) -> ConnectionPool:
    """Connections to a server, or to the one that Sentinels name."""
    asked = sentinel_url(url)
    pool = kind.from_url(
        asked.server if asked else url,
        protocol=2,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    pool.connection_class = (FOLLOWING if asked else HONEST)[pool.connection_class]
    if asked:
        pool.connection_kwargs["sentinels"] = asked
    return pool


async def _run_directly(db: RedisClient, commands: Sequence[Command]) -> list[Any]:
    answers: list[Any] = await db.direct.run(commands)
    return answers


async def _run_apart(db: RedisClient, commands: Sequence[Command]) -> list[Any]:
    pipe = db.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers


def raised(answers: list[Any]) -> list[Any]:
    """Return the answers, if none is an error. Raises the first that is."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


class LuaScript:
    """A Lua script by its digest, loaded again whenever the server has forgotten it. The
    functions of `others`, which only define some, come before it. `even_if_full`: it runs though
    the server's memory is full, as those do by which what was let in goes on and ends."""

    def __init__(self, name: str, *others: str, even_if_full: bool = False) -> None:
        files = [_SCRIPTS / f"{each}.lua" for each in (*others, name)]
        head = "#!lua flags=allow-oom\n" if even_if_full else ""
        self.source = head + "".join(file.read_text() for file in files)
        self.digest = ""

    async def __call__(self, db: RedisClient, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return (await self.map(db, [(keys, args)]))[0]

    async def apart(self, db: RedisClient, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """The same, by a connection of its own: a call that is large holds up no others."""
        return raised(await self.outcomes(db, [(keys, args)], _run_apart))[0]

    async def map(
        self, db: RedisClient, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]
    ) -> list[Any]:
        """Run the script once per (keys, args), in one round trip. Raises the first error."""
        return raised(await self.outcomes(db, calls))

    async def outcomes(
        self,
        db: RedisClient,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        run: Callable[[RedisClient, Sequence[Command]], Awaitable[list[Any]]] = _run_directly,
    ) -> list[Any]:
        """Run the script once per (keys, args), in one round trip. Return the outcome of each call:
        an answer, or its error."""
        if not self.digest:
            self.digest = await db.script_load(self.source)
        commands = [("EVALSHA", self.digest, len(keys), *keys, *args) for keys, args in calls]
        answers = await run(db, commands)
        missed = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missed:
            # By the same connection: another one may still be to a server that was the primary.
            load = ("SCRIPT", "LOAD", self.source)
            loaded, *again = await run(db, [load, *(commands[i] for i in missed)])
            raised([loaded])
            for i, answer in zip(missed, again, strict=True):
                answers[i] = answer
        return answers


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return items in parts of which one call may take each: a script holds up all others."""
    return (items[i : i + MOST_AT_ONCE] for i in range(0, len(items), MOST_AT_ONCE))


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


def mapping_of(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of an entry, which are one list on the wire."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def entries_of(answer: Any) -> list[tuple[str, dict[bytes, bytes]]]:
    """Return the entries in redis-py's answer to XREAD or XREADGROUP of one stream; those
    deleted meanwhile have no fields and are left out."""
    if not answer:
        return []
    return [(entry.decode(), fields) for entry, fields in answer[0][1] if fields]
