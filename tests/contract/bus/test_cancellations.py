"""A cancelled job is dropped wherever it is, and the worker that runs it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended
from contract.bus.client import connect_reader
from contract.bus.queue import JobQueue
from contract.bus.tickets import QueueFull, WasCancelled
from tests.contract.queue_workers import (
    beat,
    begin_one,
    claim,
    count_unfinished,
    count_waiting,
    end_lease,
    lose,
    put,
    state_of,
)
from tests.waiting import until


@pytest.fixture
async def cancellations(db: Redis, queue: JobQueue) -> Cancellations:
    made = Cancellations(db, queue.model)
    await made.open()
    return made


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_reader(redis_url)
    yield client
    await client.aclose()


async def test_a_job_cancelled_while_it_waits_is_never_begun(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    await put(queue, "b")
    assert await cancellations.announce("a")
    assert await state_of(queue, "a") == "cancelled"
    assert (await count_waiting(queue), await count_unfinished(queue)) == (1, 1)
    assert 0 < await db.pttl(queue.job_key("a")) <= 300_000
    assert (await begin_one(queue, db, "w")).job.id == "b"


async def test_a_cancelled_job_makes_room_though_no_worker_is_there(
    queue: JobQueue, cancellations: Cancellations
) -> None:
    await put(queue, "a", max_waiting=1)
    with pytest.raises(QueueFull):
        await put(queue, "b", max_waiting=1)
    await cancellations.announce("a")
    await put(queue, "b", max_waiting=1)


async def test_a_cancelled_job_that_was_given_back_leaves_the_queue(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    await queue.release("w", [attempt])
    assert await count_unfinished(queue) == 1
    assert await cancellations.announce("a")
    assert await count_unfinished(queue) == 0
    assert await queue.take_over("w", 9) == []


async def test_a_job_cancelled_between_claim_and_begin_is_dropped(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    claims = await claim(queue, db, "w")
    assert await cancellations.announce("a")
    assert await queue.begin("w", claims) == []
    assert await count_unfinished(queue) == 0


async def test_a_cancelled_job_whose_worker_is_lost_is_not_taken_up_again(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    late = await begin_one(queue, db, "w0")
    assert await cancellations.announce("a")
    assert await lose(queue, "w0", "w1") == []
    assert await queue.complete("w0", [Ended(late, "done")]) == 0
    assert await state_of(queue, "a") == "cancelled"


async def test_a_cancelled_job_that_is_given_back_leaves_the_queue(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    await beat(db, queue.model, "w")
    assert await cancellations.announce("a")
    assert await count_unfinished(queue) == 1
    await queue.release("w", [attempt])
    assert await count_unfinished(queue) == 0
    assert await state_of(queue, "a") == "cancelled"


async def test_a_cancelled_job_of_a_lost_worker_leaves_the_queue(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    await beat(db, queue.model, "w")
    late = await begin_one(queue, db, "w")
    await end_lease(db, queue.model, "w")
    assert await cancellations.announce("a")
    assert await count_unfinished(queue) == 0
    await queue.complete("w", [Ended(late, "done")])
    assert await state_of(queue, "a") == "cancelled"


async def test_who_asks_again_for_a_cancelled_job_is_told(
    queue: JobQueue, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    await cancellations.announce("a")
    with pytest.raises(WasCancelled):
        await put(queue, "a")


async def test_who_asks_again_for_a_job_that_is_being_cancelled_is_told(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    await begin_one(queue, db, "w")
    await beat(db, queue.model, "w")
    await cancellations.announce("a")
    assert await state_of(queue, "a") == "running"
    with pytest.raises(WasCancelled):
        await put(queue, "a")


async def test_a_job_that_ended_or_never_was_cannot_be_cancelled(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    await queue.complete("w", [Ended(attempt, "done")])
    assert not await cancellations.announce("a")
    assert not await cancellations.announce("never was")
    assert await db.xlen(cancellations.key) == 0


async def test_cancelling_twice_is_safe(
    queue: JobQueue, db: Redis, cancellations: Cancellations
) -> None:
    await put(queue, "a")
    await begin_one(queue, db, "w")
    await beat(db, queue.model, "w")
    assert await cancellations.announce("a")
    assert await cancellations.announce("a")


async def test_whoever_listens_hears_of_each_running_job_in_order(
    queue: JobQueue, db: Redis, cancellations: Cancellations, reader: Redis
) -> None:
    for job_id in "abc":
        await put(queue, job_id)
        await begin_one(queue, db, "w")
    for job_id in "abc":
        await cancellations.announce(job_id)
    assert await _hear(cancellations, reader, 3) == ["a", "b", "c"]


async def test_what_was_cancelled_before_opening_is_not_heard(
    queue: JobQueue, db: Redis, reader: Redis
) -> None:
    for job_id in ("old", "new"):
        await put(queue, job_id)
        await begin_one(queue, db, "w")
    late = Cancellations(db, queue.model)
    await late.announce("old")
    await late.open()
    await late.announce("new")
    assert await _hear(late, reader, 1) == ["new"]


async def test_what_was_cancelled_during_a_reconnect_is_heard_after_it(
    queue: JobQueue, db: Redis, cancellations: Cancellations, reader: Redis, redis_url: str
) -> None:
    for job_id in "ab":
        await put(queue, job_id)
        await begin_one(queue, db, "w")
    await cancellations.announce("a")
    connection = await reader.client_id()
    listening = asyncio.create_task(_hear(cancellations, reader, 2))
    await until(lambda: _is_blocked(db, connection))
    await db.client_kill_filter(_id=connection)
    with pytest.raises(RedisError):
        await listening
    await cancellations.announce("b")
    assert await _hear(cancellations, reader, 1) == ["b"]


async def _is_blocked(db: Redis, connection: int) -> bool:
    (client,) = await db.client_list(client_id=[connection])
    return "b" in client["flags"]


async def _hear(cancellations: Cancellations, reader: Redis, count: int) -> list[str]:
    heard: list[str] = []
    listening = cancellations.listen(reader)
    async with asyncio.timeout(5):
        async for job_id in listening:
            heard.append(job_id)
            if len(heard) == count:
                break
    await listening.aclose()
    return heard
