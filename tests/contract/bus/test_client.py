"""The server may forget scripts, groups, or everything: the bus goes on."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from contract.bus.claims import Ended
from contract.bus.client import LuaScript, connect, connect_reader, wait_for_server
from contract.bus.queue import JobQueue
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import (
    attempts,
    beat,
    begin,
    begin_one,
    count_waiting,
    lose,
    put,
    serve,
    state_of,
)
from tests.redis_proxy import RedisProxy
from tests.waiting import until


async def test_scripts_are_loaded_again_when_the_server_forgot_them(
    queue: JobQueue, db: Redis
) -> None:
    for n in range(5):
        await put(queue, f"j{n}")
    await db.script_flush()
    begun = attempts(await begin(queue, db, "w"))
    assert len(begun) == 5
    await db.script_flush()
    assert await queue.complete("w", [Ended(attempt, "done") for attempt in begun]) == 0
    assert [await state_of(queue, f"j{n}") for n in range(5)] == ["done"] * 5


async def test_a_script_answers_each_call_of_a_batch_in_order(db: Redis, unique_model: str) -> None:
    cancel = LuaScript("cancel", "apart", "jobs", "turns")
    keys = [f"{unique_model}:{n}" for n in range(4)]
    for key in keys[::2]:
        await db.hset(key, "state", "queued")
    calls = [([key, f"{unique_model}:out"], [key]) for key in keys]
    assert await cancel.map(db, calls) == [1, 0, 1, 0]
    await db.script_flush()
    assert await cancel.map(db, calls) == [1, 0, 1, 0]
    assert await cancel.map(db, []) == []
    await db.script_flush()
    assert await cancel.apart(db, *calls[0]) == 1


async def test_an_error_in_a_script_is_raised(db: Redis, unique_model: str) -> None:
    await db.set(unique_model, "not a stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await LuaScript("publish")(db, [unique_model], ["a"])


async def test_the_bus_survives_that_everything_was_flushed(own_valkey: ValkeyServer) -> None:
    db = connect(own_valkey.url)
    queue = JobQueue(db, "m")
    await beat(db, "m", "w")
    await put(queue, "a")
    lost = await begin_one(queue, db, "w")
    await db.flushall()
    assert await queue.complete("w", [Ended(lost, "done")]) == 1
    assert await queue.owners(["a"]) == {}
    assert await beat(db, "m", "w")
    assert await begin(queue, db, "w") == []
    await serve(queue)
    await put(queue, "b")
    attempt = await begin_one(queue, db, "w")
    assert (attempt.job.id, attempt.ordinal) == ("b", 1)
    await db.aclose()


async def test_a_reader_blocked_while_everything_is_flushed_serves_on(
    own_valkey: ValkeyServer,
) -> None:
    db, reader = connect(own_valkey.url), connect_reader(own_valkey.url)
    queue = JobQueue(db, "m")
    await queue.open()
    claiming = asyncio.create_task(queue.claim(reader, "w", 9, 500))
    await asyncio.sleep(0.1)
    await db.flushall()
    async with asyncio.timeout(20):
        assert await claiming == []
    await serve(queue)
    await put(queue, "a")
    assert [claim.job_id for claim in await queue.claim(reader, "w", 9, 5_000)] == ["a"]
    await reader.aclose()
    await db.aclose()


async def test_a_group_that_was_destroyed_is_made_again_and_running_jobs_are_fenced(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    old = await begin_one(queue, db, "w0")
    await db.xgroup_destroy(queue.key, "workers")
    assert await begin(queue, db, "w1") == []
    new = await begin_one(queue, db, "w1")
    assert new.ordinal == 2
    assert await queue.complete("w0", [Ended(old, "done")]) == 1
    assert await queue.complete("w1", [Ended(new, "done")]) == 0


async def test_jobs_outlive_a_server_that_is_killed(own_valkey: ValkeyServer) -> None:
    db, reader = connect(own_valkey.url), connect_reader(own_valkey.url)
    queue = JobQueue(db, "m")
    await serve(queue)
    await put(queue, "a")
    await put(queue, "b")
    held = attempts(await begin(queue, reader, "w0"))
    own_valkey.kill()
    with pytest.raises(RedisError):
        await count_waiting(queue)
    own_valkey.start()
    await wait_for_server(db, 30)
    assert [each.job.id for each in attempts(await lose(queue, "w0", "w1"))] == ["a", "b"]
    assert await queue.complete("w0", [Ended(held[0], "done")]) == 1
    await reader.aclose()
    await db.aclose()


async def test_a_client_does_not_repeat_a_command_by_itself(own_valkey: ValkeyServer) -> None:
    db, other = connect(own_valkey.url, connections=1), connect(own_valkey.url)
    connection = await db.client_id()
    await other.client_pause(60_000, all=False)
    adding = asyncio.create_task(db.xadd("s", {"n": 1}))

    async def has_arrived() -> bool:
        (its,) = [each for each in await other.client_list() if each["id"] == str(connection)]
        return bool(its["cmd"] == "xadd")

    await until(has_arrived)
    await other.client_kill_filter(_id=connection)
    with pytest.raises(RedisError):
        await adding
    await other.client_unpause()
    await other.set("the pause", "is over")
    assert await other.xlen("s") == 0
    await other.aclose()
    await db.aclose()


async def test_waiting_for_a_server_that_does_not_come_ends_in_its_error() -> None:
    db = connect("unix:///nowhere/v.sock")
    with pytest.raises(RedisError):
        await wait_for_server(db, 0.2)
    await db.aclose()


def test_a_server_that_accepts_and_resets_raises_nothing_but_redis_errors(
    own_valkey: ValkeyServer,
) -> None:
    async def ask_in_vain() -> None:
        async with RedisProxy(str(own_valkey.socket)) as proxy:
            db, reader = connect(proxy.url), connect_reader(proxy.url)
            assert await db.ping()
            assert await reader.ping()
            proxy.reset()
            for _ in range(60):
                for client in (db, reader):
                    with pytest.raises(RedisError):
                        await client.ping()
            assert proxy.resets >= 60
            proxy.heal()
            assert await db.ping()
            assert await reader.ping()
            await reader.aclose()
            await db.aclose()

    uvloop.run(ask_in_vain())


async def test_a_transport_that_the_event_loop_has_closed_is_a_lost_connection(
    db: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    await db.ping()
    connection = db.connection_pool._available_connections[0]
    monkeypatch.setattr(connection, "_send_packed_command", closed)
    with pytest.raises(RedisError, match="TCPTransport"):
        await db.ping()
