"""Jobs of workers whose lease has ended go to others: each once, and none is forgotten."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from redis.asyncio import Redis

from contract.bus.claims import Ended
from contract.bus.client import connect_reader
from contract.bus.queue import JobQueue
from tests.contract.queue_workers import attempts, beat, begin, begin_one, claim, end_lease, put
from tests.waiting import until


async def test_only_workers_whose_lease_ended_lose_their_jobs(queue: JobQueue, db: Redis) -> None:
    await beat(db, queue.model, "alive")
    await beat(db, queue.model, "gone")
    await put(queue, "a")
    await begin(queue, db, "alive")
    await put(queue, "b")
    await begin(queue, db, "gone")
    assert await queue.take_over("heir", 9) == []
    await end_lease(db, queue.model, "gone")
    assert [claim.job_id for claim in await queue.take_over("heir", 9)] == ["b"]


async def test_a_worker_that_never_had_a_lease_loses_its_jobs(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    await begin(queue, db, "silent")
    assert [claim.job_id for claim in await queue.take_over("heir", 9)] == ["a"]


async def test_nobody_takes_its_own_jobs_over(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    await begin(queue, db, "w")
    assert await queue.take_over("w", 9) == []


async def test_a_claim_that_is_handed_back_is_anybodys(queue: JobQueue, db: Redis) -> None:
    await beat(db, queue.model, "w")
    for each in ("a", "b"):
        await put(queue, each)
    kept, given = await claim(queue, db, "w")
    await queue.hand_back([given])
    assert await queue.held("w") == {kept.entry}
    assert [each.job_id for each in await queue.take_over("heir", 9)] == [given.job_id]


async def test_no_more_jobs_are_taken_than_asked_for(queue: JobQueue, db: Redis) -> None:
    for n in range(6):
        await put(queue, f"j{n}")
        await claim(queue, db, f"gone{n % 2}", count=1)
    taken = [await queue.take_over("heir", 4) for _ in range(3)]
    assert [len(claims) for claims in taken] == [4, 2, 0]


async def test_claims_that_are_handed_back_go_to_the_next_worker_that_asks(
    queue: JobQueue, db: Redis
) -> None:
    for job_id in ("a", "b"):
        await put(queue, job_id)
    await begin(queue, db, "gone")
    await beat(db, queue.model, "busy")
    taken = await queue.take_over("busy", 9)
    assert await queue.take_over("idle", 9) == []
    await queue.hand_back(taken)
    assert [claim.job_id for claim in await queue.take_over("idle", 9)] == ["a", "b"]
    await queue.hand_back([])


async def test_workers_racing_for_lost_jobs_get_each_once(queue: JobQueue, db: Redis) -> None:
    for n in range(80):
        await put(queue, f"j{n}")
    await claim(queue, db, "gone", count=80)
    heirs = [f"h{n}" for n in range(8)]
    for heir in heirs:
        await beat(db, queue.model, heir)
    taken = await asyncio.gather(*(queue.take_over(heir, 20) for heir in heirs))
    ids = [claim.job_id for claims in taken for claim in claims]
    assert sorted(ids) == sorted(f"j{n}" for n in range(80))


async def test_consumers_of_ended_leases_are_removed_but_never_with_jobs(
    queue: JobQueue, db: Redis
) -> None:
    async def consumers() -> set[str]:
        infos = await db.xinfo_consumers(queue.key, "workers")
        return {info["name"].decode() for info in infos}

    await beat(db, queue.model, "alive")
    for job_id, worker in [("a", "alive"), ("b", "idle and gone"), ("c", "busy and gone")]:
        await put(queue, job_id)
        if worker == "busy and gone":
            await claim(queue, db, worker)
        else:
            attempt = await begin_one(queue, db, worker)
            await queue.complete(worker, [Ended(attempt, "done")])
    assert await queue.take_over("heir", 0) == []
    assert await consumers() == {"alive", "busy and gone"}
    assert len(await queue.take_over("heir", 1)) == 1
    await queue.take_over("heir", 1)
    assert await consumers() == {"alive", "heir"}
    (pending,) = await db.xpending_range(queue.key, "workers", "-", "+", 9)
    assert pending["consumer"] == b"heir"


async def test_taking_over_from_a_queue_that_does_not_exist_finds_nothing(
    db: Redis, unique_model: str
) -> None:
    assert await JobQueue(db, unique_model).take_over("w", 9) == []


async def test_a_delivery_that_was_lost_on_the_way_is_found_again(
    queue: JobQueue, db: Redis, redis_url: str
) -> None:
    await put(queue, "a")
    await _claim_and_lose_the_reply(queue, db, redis_url, "w")
    reader = connect_reader(redis_url)
    assert await queue.claim(reader, "w", 9, 1) == []
    (found,) = await queue.claimed_before(reader, "w", 9)
    (attempt,) = attempts(await queue.begin("w", [found]))
    assert (attempt.job.id, attempt.ordinal) == ("a", 1)
    await queue.complete("w", [Ended(attempt, "done")])
    assert await queue.claimed_before(reader, "w", 9) == []
    await reader.aclose()


async def _claim_and_lose_the_reply(
    queue: JobQueue, db: Redis, redis_url: str, worker: str
) -> None:
    words = ["XREADGROUP", "GROUP", "workers", worker, "COUNT", "9", "STREAMS", queue.key, ">"]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(Path(redis_url.removeprefix("unix://"))))
        connection.sendall(b"*%d\r\n" % len(words))
        connection.sendall(b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        await until(lambda: _has_pending(queue, db))


async def _has_pending(queue: JobQueue, db: Redis) -> bool:
    return bool((await db.xpending(queue.key, "workers"))["pending"])


async def test_what_was_claimed_before_comes_oldest_first_and_no_more_than_asked(
    queue: JobQueue, db: Redis
) -> None:
    for job_id in "abc":
        await put(queue, job_id)
    await claim(queue, db, "w")
    found = await queue.claimed_before(db, "w", 2)
    assert [claim.job_id for claim in found] == ["a", "b"]


async def test_a_worker_back_from_the_dead_finds_what_was_not_taken_from_it(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    await end_lease(db, queue.model, "w")
    assert await beat(db, queue.model, "w")
    assert await queue.take_over("heir", 9) == []
    assert [claim.job_id for claim in await queue.claimed_before(db, "w", 9)] == ["a"]
    assert await queue.owners(["a", "unknown"]) == {"a": attempt.number}
