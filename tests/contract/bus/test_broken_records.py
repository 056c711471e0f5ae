"""A script does several jobs in a call: what is kept of one, or of one key, may be damaged, and the
others go on."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended
from contract.bus.queue import JobQueue
from contract.limits import Consumption, KeyLimits
from contract.usage import JobUse
from tests.contract.queue_workers import (
    REPLY,
    a_job,
    attempts,
    begin,
    claim,
    count_unfinished,
    end_lease,
    put,
    put_one,
    state_of,
)

JOBS = ("a", "b", "c")


async def damage(db: Redis, key: str) -> None:
    """Have a key hold what no script expects there, as they then fail at it."""
    await db.delete(key)
    await db.set(key, "damaged")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await db.hgetall(key)


async def put_three(queue: JobQueue) -> None:
    for name in JOBS:
        await put(queue, name)


async def test_a_job_that_cannot_be_begun_holds_up_no_other(queue: JobQueue, db: Redis) -> None:
    await put_three(queue)
    await damage(db, queue.job_key("b"))
    begun = attempts(await begin(queue, db, "w"))
    assert [each.job.id for each in begun] == ["a", "c"]
    assert [await state_of(queue, name) for name in ("a", "c")] == ["running", "running"]
    (letter,) = await queue.dead_letters.letters()
    assert (letter.id, letter.reason) == ("b", "unreadable")
    assert await queue.held("w") == {each.entry for each in begun}


async def test_a_record_that_says_too_little_says_then_that_its_job_has_failed(
    queue: JobQueue, db: Redis
) -> None:
    """So the gateway ends its answer."""
    await put_three(queue)
    await db.hdel(queue.job_key("b"), "deadline")
    assert len(attempts(await begin(queue, db, "w"))) == 2
    assert await state_of(queue, "b") == "failed"
    assert set(await queue.current_attempts(JOBS)) == {"a", "c"}


async def test_a_job_that_cannot_be_ended_holds_up_no_other(queue: JobQueue, db: Redis) -> None:
    await put_three(queue)
    begun = attempts(await begin(queue, db, "w"))
    await damage(db, queue.job_key("b"))
    ended = [Ended(each, "done") for each in begun]
    assert await queue.complete("w", ended) == 0
    assert await queue.complete("w", ended) == 0
    assert [await state_of(queue, name) for name in ("a", "c")] == ["done", "done"]
    assert await queue.held("w") == {begun[1].entry}
    assert await queue.current_attempts(JOBS) == {}
    claims = await queue.claimed_before(db, "w", 10)
    assert await queue.begin("w", claims) == []
    assert await count_unfinished(queue) == 0
    assert len(await queue.dead_letters.letters()) == 1


@pytest.mark.parametrize("what", ["open", "waiting", "tokens", "spent"])
async def test_limits_that_cannot_be_written_hold_up_no_job_and_no_other_limits(
    queue: JobQueue, db: Redis, what: str
) -> None:
    subjects = [f"key:{queue.model}-{name}" for name in JOBS]
    limits = KeyLimits(tokens_per_minute=1000, open_requests=10)
    for name, subject in zip(JOBS, subjects, strict=True):
        bounds = {"max_waiting": 10, "deadline_ms": 60_000}
        taken = Consumption(40, ((subject, limits),))
        await put_one(queue, a_job(queue, name), REPLY, "0", consumption=taken, **bounds)
    await damage(db, f"ew:limit:{subjects[1]}:{what}")
    begun = attempts(await begin(queue, db, "w"))
    assert [each.job.id for each in begun] == [*JOBS]
    use = JobUse(3, 0, 4)
    assert await queue.complete("w", [Ended(each, "done", use) for each in begun]) == 0
    assert [await state_of(queue, name) for name in JOBS] == ["done"] * 3
    for subject in (subjects[0], subjects[2]):
        assert not await db.zcard(f"ew:limit:{subject}:open")
        assert await db.hget(f"ew:limit:{subject}:tokens", "total") == b"7"
    assert await db.get(f"ew:limit:{subjects[1]}:{what}") == b"damaged"


async def test_a_place_that_cannot_be_read_holds_up_no_other_job(
    queue: JobQueue, db: Redis
) -> None:
    """The job has its turn all the same, after the others."""
    await put_three(queue)
    entry = (await db.hget(queue.job_key("b"), "entry")).decode()
    places = f"ew:{{{queue.model}}}:places"
    await db.hset(places, entry, "damaged")
    assert [each.job_id for each in await claim(queue, db, "w")] == ["a", "c"]
    assert not await db.hexists(places, entry)
    assert [each.job_id for each in await claim(queue, db, "w")] == ["b"]


async def test_a_job_that_waits_and_has_no_place_does_not_hold_the_server(
    queue: JobQueue, db: Redis
) -> None:
    await put_three(queue)
    entry = (await db.hget(queue.job_key("b"), "entry")).decode()
    await db.hdel(f"ew:{{{queue.model}}}:places", entry)
    (held,) = await db.xreadgroup("workers", "other", {queue.key: ">"}, count=2)
    assert entry.encode() in [each[0] for each in held[1]], "it is claimed, and waits"
    assert [each.job_id for each in await claim(queue, db, "w")] == ["c"]


async def test_records_and_cancellations_pass_a_damaged_job_by(queue: JobQueue, db: Redis) -> None:
    await put_three(queue)
    assert len(await begin(queue, db, "w")) == 3
    await damage(db, queue.job_key("b"))
    await end_lease(db, queue.model, "w")
    claims = await queue.take_over("heir", 10)
    records = await queue.trials.records(claims)
    assert [records[each.entry].lost for each in claims] == [1, 0, 1]
    assert await Cancellations(db, queue.model).announce_all(JOBS) == [True, False, True]
    assert [await state_of(queue, name) for name in ("a", "c")] == ["cancelled"] * 2
