"""Commands that go straight to the server: in order, each answered once, and lost as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from contract.bus.client import BusClient, connect
from contract.bus.connection.direct import DirectConnection
from tests.conftest import ValkeyServer
from tests.redis_proxy import RedisProxy


@pytest_asyncio.fixture
async def own(own_valkey: ValkeyServer) -> AsyncIterator[BusClient]:
    """A client of a server that serves no other test."""
    client = connect(own_valkey.url)
    yield client
    await client.aclose()


async def test_commands_that_overlap_have_their_own_answers(
    db: BusClient, unique_model: str
) -> None:
    async def count(name: str) -> list[int]:
        key = f"{unique_model}:{name}"
        return [await db.direct.ask("INCR", key) for _ in range(50)]

    counted = await asyncio.gather(*map(count, "abcd"))
    assert counted == [list(range(1, 51))] * 4


async def test_one_error_is_that_of_one_command(db: BusClient, unique_model: str) -> None:
    key = unique_model
    answers = await db.direct.run([("SET", key, "x"), ("INCR", key), ("GET", key)])
    assert [answers[0], answers[2]] == [b"OK", b"x"]
    assert isinstance(answers[1], ResponseError)
    with pytest.raises(ResponseError, match="not an integer"):
        await db.direct.ask("INCR", key)


async def test_nothing_is_asked_for_no_command() -> None:
    nowhere = connect("unix:///nowhere/v.sock")
    assert await nowhere.direct.run([]) == []
    with pytest.raises(RedisError):
        await nowhere.direct.ask("PING")
    await nowhere.aclose()


async def test_large_answers_come_whole(db: BusClient, unique_model: str) -> None:
    value = bytes(range(256)) * 8_000
    assert await db.direct.run([("SET", unique_model, value), ("GET", unique_model)]) == [
        b"OK",
        value,
    ]


async def test_an_answer_that_its_caller_does_not_wait_for_is_no_other_commands(
    db: BusClient, unique_model: str
) -> None:
    await db.direct.ask("SET", unique_model, "x")
    asking = asyncio.create_task(db.direct.ask("GET", unique_model))
    await asyncio.sleep(0)
    asking.cancel()
    assert await db.direct.ask("ECHO", "mine") == b"mine"


async def test_a_caller_that_leaves_while_it_connects_does_not_end_that_for_others(
    db: BusClient,
) -> None:
    first, second = (asyncio.create_task(db.direct.ask("ECHO", n)) for n in (1, 2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"2"


async def test_commands_of_a_connection_that_is_lost_fail_and_the_next_connects_again(
    own: BusClient,
) -> None:
    mine = await own.direct.ask("CLIENT", "ID")
    blocked = [asyncio.create_task(own.direct.ask("BLPOP", "k", 0)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await own.client_kill_filter(_id=str(mine)) == 1
    for each in blocked:
        with pytest.raises(LostConnection):
            await each
    await own.rpush("k", "x")
    # Neither of them was executed again.
    assert await own.direct.ask("LLEN", "k") == 1
    assert await own.direct.ask("CLIENT", "ID") != mine


async def test_a_server_that_is_silent_for_too_long_is_lost(own: BusClient) -> None:
    impatient = DirectConnection(own.connection_pool.make_connection, timeout_s=0.1)
    assert await impatient.ask("PING") == b"PONG"
    with pytest.raises(RedisTimeout):
        await impatient.ask("BLPOP", "k", 0)
    assert await impatient.ask("PING") == b"PONG"
    impatient.close()


async def test_a_connection_that_was_closed_may_be_used_again(own: BusClient) -> None:
    mine = await own.direct.ask("CLIENT", "ID")
    blocked = asyncio.create_task(own.direct.ask("BLPOP", "k", 0))
    await asyncio.sleep(0)
    own.direct.close()
    with pytest.raises(LostConnection, match="closed"):
        await blocked
    assert await own.direct.ask("CLIENT", "ID") != mine


def test_what_a_server_does_that_accepts_and_resets_is_a_redis_error(
    own_valkey: ValkeyServer,
) -> None:
    async def ask_in_vain() -> None:
        async with RedisProxy(str(own_valkey.socket)) as proxy:
            db = connect(proxy.url)
            assert await db.direct.ask("PING") == b"PONG"
            proxy.reset()
            for _ in range(60):
                with pytest.raises(RedisError):
                    await db.direct.ask("PING")
            proxy.heal()
            assert await db.direct.ask("PING") == b"PONG"
            await db.aclose()

    uvloop.run(ask_in_vain())


def test_a_server_that_is_killed_and_comes_back_is_used_again_by_uvloop(
    own_valkey: ValkeyServer,
) -> None:
    async def ask() -> None:
        db = connect(own_valkey.url)
        assert await db.direct.ask("PING") == b"PONG"
        own_valkey.kill()
        with pytest.raises(RedisError):
            await db.direct.ask("PING")
        own_valkey.start()
        assert await db.direct.ask("PING") == b"PONG"
        await db.aclose()

    uvloop.run(ask())


class _LostAtOnce:
    """A connection that the server closes before those that waited for it have their turn."""

    def __init__(self) -> None:
        self.is_dropped = False

    async def hand_over(self, protocol: asyncio.Protocol) -> _Discarding:
        asyncio.get_running_loop().call_soon(protocol.connection_lost, None)
        return _Discarding()

    def drop(self) -> None:
        self.is_dropped = True


class _Discarding:
    def write(self, data: bytes) -> None:
        """As a transport that is closed does."""


async def test_a_connection_that_is_lost_before_its_first_command_answers_that_it_is() -> None:
    made: list[_LostAtOnce] = []

    def make() -> Any:
        made.append(_LostAtOnce())
        return made[-1]

    direct = DirectConnection(make, timeout_s=0.05)
    for number in (1, 2):
        with pytest.raises(LostConnection):
            await asyncio.wait_for(direct.ask("PING"), 5)
        assert [each.is_dropped for each in made] == [True] * number
