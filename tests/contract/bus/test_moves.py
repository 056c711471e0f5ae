"""A job that waits moves to another model's queue: in one step, once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from contract.asked import Media
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended, read_media
from contract.bus.client import connect
from contract.bus.known_requests import KnownRequests
from contract.bus.moves import MoveOutcome, move_job
from contract.bus.queue import JobQueue
from contract.bus.records.usage_accounts import UsageAccounts
from contract.bus.tickets import Ticket
from contract.bus.views.job_life import job_life
from contract.bus.whereabouts import whereabouts
from contract.limits import Consumption, KeyLimits
from contract.messages import ChatMessage, Job, Sampling
from contract.usage import JobUse
from tests.contract.queue_workers import (
    beat,
    begin_one,
    claim,
    count_unfinished,
    count_waiting,
    put_one,
    state_of,
)

USE = JobUse(10, 0, 5, 0, 100)
REPLY = "ew:out:nobody"


@pytest.fixture
async def other(db: Redis, queue: JobQueue) -> JobQueue:
    """The queue of a model that has a worker, and room."""
    made = JobQueue(db, f"{queue.model}-other")
    await beat(db, made.model, "w2")
    return made


@pytest.fixture
async def second(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


def a_job(queue: JobQueue, job_id: str) -> Job:
    return Job(job_id, queue.model, Sampling(max_tokens=4), prompt="hello", key_id="anna")


async def put(queue: JobQueue, job: Job) -> Ticket:
    limits = ((f"key:{queue.model}", KeyLimits(open_requests=99, tokens_per_minute=9000)),)
    return await put_one(
        queue,
        job,
        REPLY,
        "0",
        max_waiting=100,
        deadline_ms=60_000,
        digest="d",
        consumption=Consumption(50, limits),
    )


async def move(
    queue: JobQueue, other: JobQueue, job_id: str, *, max_waiting: int = 100, max_bytes: int = 0
) -> MoveOutcome:
    job = a_job(other, job_id)
    bounds = {"max_waiting": max_waiting, "max_bytes": max_bytes}
    return await move_job(queue.db, job, former=queue.model, request="r", **bounds)


async def counted(db: Redis, queue: JobQueue) -> tuple[int, int, int]:
    """The key's open jobs, those of them that wait, and its tokens of the last minute."""
    subject = f"ew:limit:key:{queue.model}"
    waiting = await db.hlen(f"{subject}:waiting")
    tokens = await db.hget(f"{subject}:tokens", "total")
    return await db.zcard(f"{subject}:open"), max(0, waiting - 1), int(tokens or 0)


async def used(db: Redis, queue: JobQueue) -> int:
    """How many requests were counted for a model."""
    seconds, _ = await db.time()
    day = datetime.fromtimestamp(seconds, UTC).date()
    rows = await UsageAccounts(db).report(day, day, by=("model",), models=[queue.model])
    return sum(row.counts.requests for row in rows if row.model == queue.model)


async def test_a_job_leaves_one_queue_for_the_other_with_all_that_it_has(
    queue: JobQueue, other: JobQueue, db: Redis
) -> None:
    await put(queue, a_job(queue, "a"))
    await put(queue, a_job(queue, "stays"))
    deadline = await db.hget(queue.job_key("a"), "deadline")
    before = await counted(db, queue)
    assert before == (2, 2, 100)
    assert await move(queue, other, "a") == ("moved", other.model, 0)
    assert (await count_waiting(queue), await count_waiting(other)) == (1, 1)
    # Neither more nor less is counted than before.
    assert await counted(db, queue) == before
    assert await db.hget(other.job_key("a"), "deadline") == deadline
    assert 0 < await db.pttl(other.job_key("a")) <= await db.pttl(queue.job_key("stays"))
    assert [each.job_id for each in await claim(queue, db, "w")] == ["stays"]
    attempt = await begin_one(other, db, "w2")
    assert (attempt.job, attempt.reply, attempt.first) == (a_job(other, "a"), REPLY, "0")
    assert await counted(db, queue) == (2, 1, 100)
    await other.complete("w2", [Ended(attempt, "done", USE)])
    assert await counted(db, queue) == (1, 1, 65)
    assert (await used(db, queue), await used(db, other)) == (0, 1)


async def test_to_repeat_a_move_changes_nothing(
    queue: JobQueue, other: JobQueue, db: Redis
) -> None:
    await put(queue, a_job(queue, "a"))
    for _ in range(2):
        assert (await move(queue, other, "a")).what == "moved"
    assert await count_unfinished(other) == 1
    attempt = await begin_one(other, db, "w2")
    assert await move(queue, other, "a") == ("moved", other.model, 0)
    await other.complete("w2", [Ended(attempt, "done", USE)])
    assert (await move(queue, other, "a")).what == "moved"
    assert await count_unfinished(other) == 0


async def test_a_worker_that_had_it_keeps_it(queue: JobQueue, other: JobQueue, db: Redis) -> None:
    await put(queue, a_job(queue, "a"))
    claims = await claim(queue, db, "w")
    assert (await move(queue, other, "a")).what == "stays"
    await queue.hand_back(claims)
    assert (await move(queue, other, "a")).what == "stays"
    (again,) = await queue.take_over("w", 1)
    (attempt,) = await queue.begin("w", [again])
    assert (await move(queue, other, "a")).what == "stays"
    # It waits again, and its client may have a part of it.
    assert await queue.yield_place("w", attempt)  # type: ignore[arg-type]
    assert (await move(queue, other, "a")).what == "stays"
    assert await count_unfinished(other) == 0
    assert (await move(queue, other, "unknown")).what == "stays"


async def test_of_a_claim_and_a_move_at_the_same_time_one_wins(
    queue: JobQueue, other: JobQueue, db: Redis, second: Redis
) -> None:
    ids = [f"j{number}" for number in range(60)]
    for each in ids:
        await put(queue, a_job(queue, each))
    moved: set[str] = set()
    held: set[str] = set()

    async def claim_all() -> None:
        """From the first on, one by one."""
        while found := await JobQueue(second, queue.model).claim(second, "w", 1, block_ms=1):
            held.update(each.job_id for each in found)

    async def move_all() -> None:
        """From the last on: they meet."""
        for each in reversed(ids):
            if (await move(queue, other, each)).what == "moved":
                moved.add(each)

    await asyncio.gather(claim_all(), move_all())
    # Both happened, or nothing was tried here.
    assert moved
    assert held
    assert moved | held == set(ids)
    assert not moved & held
    assert {each.job_id for each in await claim(other, db, "w2", 100)} == moved
    assert await count_unfinished(queue) == len(held)


async def test_a_cancellation_finds_it_where_it_went(
    queue: JobQueue, other: JobQueue, db: Redis
) -> None:
    for each in ("a", "b", "c"):
        await put(queue, a_job(queue, each))
    cancellations = Cancellations(db, queue.model)
    assert await cancellations.announce("a")
    assert (await move(queue, other, "a")).what == "stays"
    await move(queue, other, "b")
    await move(queue, other, "c")
    assert await cancellations.announce_all(["a", "b"]) == [False, True]
    assert await state_of(other, "b") == "cancelled"
    assert (await begin_one(other, db, "w2")).job.id == "c"
    assert await counted(db, queue) == (1, 0, 50)
    found = await whereabouts(queue, "c")
    assert found is not None
    assert (found.model, found.state, found.ticket.reply) == (other.model, "running", REPLY)


async def test_who_takes_nothing_gets_nothing(queue: JobQueue, other: JobQueue, db: Redis) -> None:
    await put(queue, a_job(queue, "a"))
    nobody = JobQueue(db, f"{queue.model}-nobody")
    assert (await move(queue, nobody, "a")).what == "unserved"
    assert (await move(queue, other, "a", max_waiting=0)).what == "full"
    assert (await move(queue, other, "a", max_bytes=10)).what == "full"
    assert (await count_unfinished(nobody), await count_unfinished(other)) == (0, 0)
    assert (await begin_one(queue, db, "w")).job.id == "a"


async def test_media_go_along(queue: JobQueue, other: JobQueue, db: Redis) -> None:
    image = Media("image", 0, "image/png", "d1", 3, b"png")

    def seen_by(model: JobQueue) -> Job:
        return Job(
            "a", model.model, Sampling(), messages=(ChatMessage("user", "x", media=(image,)),)
        )

    await put(queue, seen_by(queue))
    outcome = await move_job(db, seen_by(other), former=queue.model, max_waiting=9)
    assert outcome.what == "moved"
    attempt = await begin_one(other, db, "w2")
    assert await read_media(db, other.job_key("a"), attempt.job) == seen_by(other)
    await other.complete("w2", [Ended(attempt, "done", USE)])
    assert await db.exists(f"{queue.job_key('a')}:media", f"{other.job_key('a')}:media") == 0
    for each in (queue, other):
        assert int(await db.hget(f"ew:{{{each.model}}}:media", "total") or 0) == 0


async def test_a_request_that_comes_again_goes_where_its_job_went(
    queue: JobQueue, other: JobQueue, db: Redis
) -> None:
    known = KnownRequests(db)
    await put(queue, a_job(queue, "a"))
    assert await known.first_choice("r", queue.model, 60_000) == queue.model
    await move(queue, other, "a")
    assert await known.first_choice("r", queue.model, 60_000) == other.model
    assert 0 < await db.pttl("ew:request:r:model") <= 60_000
    # Whichever queue is asked, the answer is to be read in the same place, and nothing is put.
    for each in (queue, other):
        again = await put(each, a_job(each, "a"))
        assert (again.known, again.reply, again.first) == (True, REPLY, "0")
    assert (await count_unfinished(queue), await count_unfinished(other)) == (0, 1)


async def test_its_life_is_told_from_either_queue_while_and_after_it(
    queue: JobQueue, other: JobQueue, db: Redis
) -> None:
    await put(queue, a_job(queue, "a"))
    await move(queue, other, "a")
    attempt = await begin_one(other, db, "w2")
    await other.complete("w2", [Ended(attempt, "done", USE)])
    for _ in range(2):
        for model in (queue.model, other.model):
            life = await job_life(db, model, "a")
            assert life is not None
            assert (life.model, life.state, len(life.attempts)) == (other.model, "done", 1)
            assert life.before is not None
            assert (life.before.model, life.before.attempts) == (queue.model, ())
            assert life.before.queued_ms <= life.queued_ms
        # Once the records are gone, another is kept.
        await db.delete(queue.job_key("a"), other.job_key("a"))
