"""Jobs are put once, within bounds, and only where a worker serves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended
from contract.bus.clock import LEAP_MS
from contract.bus.queue import JobQueue
from contract.bus.records.usage_accounts import UsageAccounts
from contract.bus.tickets import Conflict, NotServed, QueueFull, QueueTooLarge, Ticket
from contract.limits import NO_CONSUMPTION
from contract.messages import Job, Sampling
from contract.usage import JobUse
from contract.wire import decode_job
from tests.contract.queue_workers import (
    a_job,
    attempts,
    beat,
    begin,
    begin_one,
    claim,
    count_unfinished,
    count_waiting,
    end_lease,
    leap,
    put,
    put_one,
    serve,
)


async def test_a_job_put_twice_is_queued_once_and_answered_alike(queue: JobQueue) -> None:
    first = await put(queue, "a")
    again = await put_one(
        queue, a_job(queue, "a"), "ew:out:another", "7-7", max_waiting=1000, deadline_ms=1000
    )
    assert first == Ticket("ew:out:nobody", "0", waiting=0, known=False)
    assert again == Ticket("ew:out:nobody", "0", waiting=0, known=True)
    assert await count_waiting(queue) == 1


async def test_many_who_put_the_same_job_at_once_queue_it_once(queue: JobQueue) -> None:
    tickets = await asyncio.gather(*(put(queue, "a") for _ in range(20)))
    assert sum(not ticket.known for ticket in tickets) == 1
    assert await count_waiting(queue) == 1


async def test_a_job_that_has_ended_is_answered_and_not_run_again(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    await queue.complete("w", [Ended(attempt, "done")])
    assert (await put(queue, "a")).known
    assert await count_waiting(queue) == 0


async def test_the_same_id_for_another_request_is_a_conflict(queue: JobQueue) -> None:
    bounds = {"max_waiting": 9, "deadline_ms": 1000}
    await put_one(queue, a_job(queue, "a"), "r", "0", digest="one", **bounds)
    assert (await put_one(queue, a_job(queue, "a"), "r", "0", digest="one", **bounds)).known
    with pytest.raises(Conflict):
        await put_one(queue, a_job(queue, "a"), "r", "0", digest="two", **bounds)
    assert await count_waiting(queue) == 1


async def test_a_full_queue_refuses_and_says_how_many_wait(queue: JobQueue) -> None:
    bounds = {"max_waiting": 2, "deadline_ms": 1000}
    for job_id in ("a", "b"):
        await put_one(queue, a_job(queue, job_id), "r", "0", **bounds)
    with pytest.raises(QueueFull) as refusal:
        await put_one(queue, a_job(queue, "c"), "r", "0", **bounds)
    assert refusal.value.waiting == 2
    assert await queue.db.exists(queue.job_key("c")) == 0


async def test_a_full_queue_still_answers_for_a_job_it_has(queue: JobQueue) -> None:
    bounds = {"max_waiting": 1, "deadline_ms": 1000}
    await put_one(queue, a_job(queue, "a"), "r", "0", **bounds)
    assert (await put_one(queue, a_job(queue, "a"), "r", "0", **bounds)).known


async def test_jobs_that_are_claimed_do_not_count_as_waiting(queue: JobQueue, db: Redis) -> None:
    for job_id in "abc":
        await put(queue, job_id)
    await claim(queue, db, "w", count=2)
    assert await count_waiting(queue) == 1
    ticket = await put_one(queue, a_job(queue, "d"), "r", "0", max_waiting=2, deadline_ms=1000)
    assert ticket.waiting == 1


async def test_a_model_without_a_ready_worker_refuses(unserved: JobQueue, db: Redis) -> None:
    async def ask(job_id: str) -> Ticket:
        return await put_one(
            unserved, a_job(unserved, job_id), "r", "0", max_waiting=9, deadline_ms=1000
        )

    with pytest.raises(NotServed):
        await ask("a")
    await beat(db, unserved.model, "w", ready=False)
    with pytest.raises(NotServed):
        await ask("a")
    await beat(db, unserved.model, "w", ready=True)
    assert not (await ask("a")).known
    await db.zadd(f"ew:{{{unserved.model}}}:ready", {"w": 1})
    with pytest.raises(NotServed):
        await ask("b")
    await end_lease(db, unserved.model, "w")


async def test_leases_that_have_just_lapsed_count_where_the_clock_may_have_leapt(
    unserved: JobQueue, db: Redis
) -> None:
    async def ask(*, was_served: bool) -> None:
        bounds = {"max_waiting": 9, "deadline_ms": 1000, "was_served": was_served}
        await unserved.put_all(
            [a_job(unserved, "a")], "r", "0", consumptions=[NO_CONSUMPTION], **bounds
        )

    with pytest.raises(NotServed):
        await ask(was_served=True)
    await beat(db, unserved.model, "w")
    await leap(db, 3600)
    with pytest.raises(NotServed):
        await ask(was_served=False)
    await ask(was_served=True)
    assert await count_waiting(unserved) == 1
    await end_lease(db, unserved.model, "w")


async def test_a_queue_that_nobody_opened_keeps_jobs_for_its_first_worker(
    db: Redis, unique_model: str
) -> None:
    queue = JobQueue(db, unique_model)
    await serve(queue)
    assert await count_waiting(queue) == 0
    await put(queue, "a")
    await queue.open()
    assert await count_waiting(queue) == 1
    assert [attempt.job.id for attempt in attempts(await begin(queue, db, "w"))] == ["a"]


async def test_the_worker_gets_the_job_as_it_was_put(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    assert attempt.job == a_job(queue, "a")
    assert (attempt.reply, attempt.first) == ("ew:out:nobody", "0")
    assert 59_000 < attempt.left_ms <= 60_000


async def test_nothing_of_a_job_stays_in_redis_for_good(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a", deadline_ms=5_000)
    assert 300_000 < await db.pttl(queue.job_key("a")) - LEAP_MS <= 305_000
    attempt = await begin_one(queue, db, "w")
    await queue.complete("w", [Ended(attempt, "done")])
    assert 295_000 < await db.pttl(queue.job_key("a")) <= 300_000
    assert await db.xlen(queue.key) == 0


async def test_the_payload_is_the_job_alone(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    ((_, fields),) = await db.xrange(queue.key)
    assert decode_job(fields[b"job"]) == a_job(queue, "a")


async def test_the_bytes_of_a_queue_are_bounded(db: Redis, unique_model: str) -> None:
    queue = JobQueue(db, unique_model)
    await serve(queue)

    async def put(job_id: str, characters: int) -> Ticket:
        job = Job(job_id, unique_model, Sampling(), prompt="x" * characters)
        return await put_one(
            queue,
            job,
            "r",
            "0",
            max_waiting=1000,
            deadline_ms=60_000,
            max_bytes=100_000,
        )

    for number in range(4):
        await put(f"{number}", 20_000)
    with pytest.raises(QueueTooLarge, match=r"0\.1 MiB are in the queue"):
        await put("one too many", 20_000)
    await put("a small one", 100)
    # A job that is there already is answered, not put.
    assert (await put("3", 20_000)).known
    assert await Cancellations(db, unique_model).announce("0")
    await put("one more", 20_000)


async def test_requests_that_share_a_call_are_let_in_one_by_one(queue: JobQueue, db: Redis) -> None:
    """Of those that come at once, each takes the room that is left by those before it, and a queue
    that refuses refuses nothing of another."""
    other = JobQueue(db, f"{queue.model}-other")
    await serve(other)
    asked = [put(queue, f"j{n}", max_waiting=3) for n in range(5)]
    asked += [put(other, f"k{n}") for n in range(3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    places = [each.waiting for each in answers if isinstance(each, Ticket)]
    assert sorted(places) == [0, 0, 1, 1, 2, 2]
    assert [type(each) for each in answers[3:5]] == [QueueFull] * 2
    assert (await count_waiting(queue), await count_waiting(other)) == (3, 3)
    assert {each.job_id for each in await claim(queue, db, "w")} == {"j0", "j1", "j2"}


async def test_an_end_that_is_told_twice_in_one_call_counts_once(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await put(queue, "b")
    a, b = attempts(await begin(queue, db, "w"))
    fenced = b._replace(number=b.number - 1)
    ends = [Ended(each, "done", JobUse(3)) for each in (a, fenced, a, b)]
    assert await queue.complete("w", ends) == 1
    today = datetime.now(UTC).date()
    rows = await UsageAccounts(db).report(today, today, models=[queue.model], by=["model"])
    (row,) = (each for each in rows if each.model == queue.model)
    assert row.counts[:4] == (2, 0, 0, 6)
    assert await count_unfinished(queue) == 0
