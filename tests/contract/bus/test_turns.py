"""Whose turn it is: classes, shares by weight, deadlines, age; and jobs of an earlier ew."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from redis.asyncio import Redis

from contract.asked import PriorityClass, Turn
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Attempt, Claim, Ended
from contract.bus.client import RedisClient, connect
from contract.bus.queue import JobQueue
from contract.bus.turns import cost_of
from contract.messages import ChatMessage, Job, Sampling
from contract.usage import JobUse
from contract.wire import encode_job
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import (
    attempts,
    begin_one,
    claim,
    count_waiting,
    put_one,
    serve,
    state_of,
)

AGED_OF = 8


async def ask(
    queue: JobQueue,
    job_id: str,
    key: str = "key",
    *,
    tokens: int = 100,
    turn: Turn | None = None,
) -> None:
    """Put a job that takes so many tokens, all of them of its answer."""
    job = Job(
        job_id,
        queue.model,
        Sampling(max_tokens=tokens),
        prompt_ids=(),
        key_id=key,
        turn=turn or Turn(),
    )
    bounds = {"max_waiting": 100_000, "deadline_ms": 60_000}
    await put_one(queue, job, "ew:out:g", "0", **bounds)


async def order(queue: JobQueue, count: int = 100) -> list[str]:
    """Claim jobs one by one."""
    found = []
    while len(found) < count and (claims := await claim(queue, queue.db, "w", 1)):
        found += [each.job_id for each in claims]
    return found


async def run(queue: JobQueue, claims: Sequence[Claim], tokens: int) -> None:
    """Begin what was claimed, and end it after so many tokens."""
    begun = attempts(await queue.begin("w", claims))
    assert await queue.complete("w", [Ended(each, "done", JobUse(tokens)) for each in begun]) == 0


async def test_keys_take_turns_however_many_jobs_each_has(queue: JobQueue) -> None:
    for number in range(40):
        await ask(queue, f"a{number}", "a")
    for number in range(2):
        await ask(queue, f"b{number}", "b")
    assert await order(queue, 5) == ["a0", "b0", "a1", "b1", "a2"]


async def test_a_share_is_of_tokens_and_not_of_requests(queue: JobQueue) -> None:
    for number in range(10):
        await ask(queue, f"a{number}", "a", tokens=200)
    for number in range(40):
        await ask(queue, f"b{number}", "b", tokens=50)
    counts = Counter(each[0] for each in await order(queue, 25))
    assert counts == {"a": 5, "b": 20}


async def test_a_weight_is_so_many_shares(queue: JobQueue) -> None:
    for number in range(40):
        await ask(queue, f"a{number}", "a", turn=Turn(weight=3.0))
        await ask(queue, f"b{number}", "b")
    counts = Counter(each[0] for each in await order(queue, 40))
    assert counts == {"a": 30, "b": 10}


async def test_what_an_answer_took_in_the_end_is_settled(queue: JobQueue) -> None:
    """One that was longer than it seemed is paid for later; one that was shorter pays back."""
    for number in range(9):
        await ask(queue, f"a{number}", "a")
        await ask(queue, f"b{number}", "b")
    first = await claim(queue, queue.db, "w", 2)
    assert [each.job_id for each in first] == ["a0", "b0"]
    await run(queue, first[:1], tokens=500)
    assert await order(queue, 5) == ["b1", "b2", "b3", "b4", "a1"]


async def test_credit_of_a_time_alone_is_not_paid_by_others(queue: JobQueue) -> None:
    for number in range(20):
        await ask(queue, f"a{number}", "a", tokens=250)
    alone = await claim(queue, queue.db, "w", 10)
    await ask(queue, "b0", "b")
    await ask(queue, "b1", "b")
    await run(queue, alone, tokens=1)
    assert "b0" in await order(queue, 2)


async def test_classes_go_one_after_the_other_and_numbers_within_them(queue: JobQueue) -> None:
    waits: list[tuple[str, PriorityClass, int]] = [
        ("last", "batch", -5),
        ("fourth", "normal", 5),
        ("third", "normal", 0),
        ("second", "normal", -5),
        ("first", "interactive", 9),
    ]
    for job_id, priority, number in waits:
        await ask(queue, job_id, turn=Turn(priority, number))
    assert await order(queue) == ["first", "second", "third", "fourth", "last"]


async def test_a_keys_own_jobs_go_by_when_they_are_wanted(queue: JobQueue) -> None:
    await ask(queue, "whenever")
    await ask(queue, "later")
    await ask(queue, "in 20 s", turn=Turn(within_s=20))
    await ask(queue, "in 10 s", turn=Turn(within_s=10))
    assert await order(queue) == ["in 10 s", "in 20 s", "whenever", "later"]


async def test_jobs_of_one_millisecond_keep_their_order(queue: JobQueue, db: Redis) -> None:
    """More than nine of them: the texts of their numbers are of different length."""
    pipe = db.pipeline(transaction=True)
    for number in range(25):
        job = Job(f"j{number}", queue.model, Sampling(max_tokens=1), prompt="x")
        pipe.xadd(queue.key, {"job": encode_job(job)}, id=f"5-{number}")
    await pipe.execute()
    await queue.open()
    assert await order(queue) == [f"j{number}" for number in range(25)]


async def test_a_lane_without_a_turn_for_long_gets_one_of_eight(queue: JobQueue, db: Redis) -> None:
    for number in range(40):
        await ask(queue, f"n{number}")
    for number in range(4):
        await ask(queue, f"b{number}", turn=Turn("batch"))
    assert [each[0] for each in await order(queue, 10)] == ["n"] * 10
    ages = queue.key.replace("queue", "ages")
    for _ in range(2):
        await db.zadd(ages, {"2:0": 1})
        got = [each[0] for each in await order(queue, AGED_OF)]
        assert got.count("b") == 1
    assert [each[0] for each in await order(queue, 10)] == ["n"] * 10


async def test_a_clock_that_is_set_back_an_hour_lets_nothing_starve(
    queue: JobQueue, db: Redis
) -> None:
    for number in range(30):
        await ask(queue, f"n{number}")
    await ask(queue, "b0", turn=Turn("batch"))
    ages, (seconds, _) = queue.key.replace("queue", "ages"), await db.time()
    await db.zincrby(ages, 3_600_000, "2:0")
    await order(queue, AGED_OF)
    assert await db.zscore(ages, "2:0") <= (seconds + 60) * 1000


async def test_a_job_says_whether_its_turn_came_by_age(queue: JobQueue, db: Redis) -> None:
    for number in range(9):
        await ask(queue, f"n{number}")
    await ask(queue, "b", turn=Turn("batch"))
    await order(queue, AGED_OF)
    await db.zadd(queue.key.replace("queue", "ages"), {"2:0": 1})
    attempt = await begin_one_of(queue)
    assert (attempt.job.id, attempt.aged) == ("b", True)


async def begin_one_of(queue: JobQueue) -> Attempt:
    (attempt,) = attempts(await queue.begin("w", await claim(queue, queue.db, "w", 1)))
    return attempt


async def test_a_cancelled_job_leaves_its_place_to_the_next(queue: JobQueue, db: Redis) -> None:
    await ask(queue, "a0", "a")
    await ask(queue, "b0", "b")
    assert await Cancellations(db, queue.model).announce("a0")
    assert await order(queue) == ["b0"]
    await nothing_is_left(queue)


async def test_who_yields_its_place_waits_again_where_it_was(queue: JobQueue, db: Redis) -> None:
    for number in range(3):
        await ask(queue, f"a{number}", "a", turn=Turn("batch"))
    attempt = await begin_one_of(queue)
    assert attempt.job.id == "a0"
    assert await queue.yield_place("w", attempt)
    await ask(queue, "b0", "b")
    again = attempts(await queue.begin("v", await claim(queue, db, "v", 2)))
    assert [each.job.id for each in again] == ["b0", "a0"]
    assert again[1].number > attempt.number
    assert again[1].ordinal == 2
    assert not await queue.yield_place("w", attempt)
    assert await queue.complete("w", [Ended(attempt, "done")]) == 1
    assert await queue.complete("v", [Ended(each, "done") for each in again]) == 0


async def test_a_key_that_asks_again_gets_a_place_again_from_one_that_holds_several(
    queue: JobQueue, db: Redis
) -> None:
    for number in range(5):
        await ask(queue, f"a{number}", "a", tokens=256)
    running = attempts(await queue.begin("w", await claim(queue, db, "w", 2)))
    for number in range(4):
        await ask(queue, f"b{number}", "b", tokens=3)
        waiting = await queue.peek()
        assert waiting is not None
        assert waiting.place.job_id == f"b{number}"
        assert await queue.yield_place("w", running.pop())
        await run(queue, await claim(queue, db, "w", 1), 3)
        running.append(await begin_one_of(queue))
        assert running[-1].job.key_id == "a"
    # It paid for six turns of two jobs, and is paid back, but no further than to the virtual time.
    await queue.complete("w", [Ended(each, "done", JobUse(256)) for each in running])
    lane = f"ew:{{{queue.model}}}:"
    assert await db.zscore(f"{lane}turns:1:0", "a") == 5 * 256
    assert await db.zscore(f"{lane}tags:1:0", "*") == 5 * 256


async def test_a_cancelled_job_does_not_wait_again(queue: JobQueue, db: Redis) -> None:
    await ask(queue, "a")
    attempt = await begin_one(queue, db, "w")
    await db.hset(queue.job_key("a"), "cancelled", 1)
    assert not await queue.yield_place("w", attempt)
    await queue.release("w", [attempt])
    assert await state_of(queue, "a") == "cancelled"
    await nothing_is_left(queue)


async def test_one_worker_makes_room_for_a_job(queue: JobQueue) -> None:
    assert await queue.peek() is None
    await ask(queue, "a", "a", turn=Turn("batch", 3, 2.0))
    waiting = await queue.peek()
    assert waiting is not None
    place = waiting.place
    assert (place.rank, place.number, place.weight, place.key_id) == (2, 3, 2.0, "a")
    assert [await queue.make_room_for(waiting) for _ in range(3)] == [True, False, False]
    assert await order(queue) == ["a"]


async def test_workers_without_room_hear_of_a_key_that_begins_to_wait(
    queue: JobQueue, db: Redis
) -> None:
    await ask(queue, "a0", "a")
    assert await db.xlen(queue.key.replace("queue", "cancel")) == 0
    await queue.peek()
    await ask(queue, "a1", "a")
    assert await db.xlen(queue.key.replace("queue", "cancel")) == 0
    await ask(queue, "b0", "b")
    ((_, told),) = await db.xrange(queue.key.replace("queue", "cancel"))
    assert told == {b"job": b""}


async def test_what_an_earlier_ew_has_put_is_served(queue: JobQueue, db: Redis) -> None:
    """Its jobs are in the stream and have no place; so they may be while it still runs."""
    await queue.open()
    for number in range(3):
        job = Job(f"old{number}", queue.model, Sampling(max_tokens=1), prompt="x", key_id="a")
        await db.xadd(queue.key, {"job": encode_job(job)})
    await ask(queue, "b0", "b")
    assert sorted(await order(queue)) == ["b0", "old0", "old1", "old2"]
    await db.xadd(queue.key, {"job": encode_job(job)})
    assert await order(queue) == ["old2"]


async def test_what_an_earlier_ew_has_claimed_is_not_claimed_again(
    queue: JobQueue, db: Redis
) -> None:
    await ask(queue, "a")
    await ask(queue, "b")
    read = ["XREADGROUP", "GROUP", "workers", "old", "COUNT", 1, "STREAMS", queue.key, ">"]
    assert await db.execute_command(*read)
    assert await order(queue) == ["b"]
    assert await queue.held("old")


def test_a_cost_is_what_can_be_told_beforehand() -> None:
    sampling = Sampling(max_tokens=10, n=2)
    assert cost_of(Job("j", "m", sampling, prompt="x" * 40)) == 30
    assert cost_of(Job("j", "m", Sampling(), prompt_ids=(1, 2))) == 258
    turn = ChatMessage("user", "x" * 400)
    assert cost_of(Job("j", "m", Sampling(max_tokens=90_000), messages=(turn,))) == 356


async def nothing_is_left(queue: JobQueue) -> None:
    """Nothing that tells of a job that waits."""
    found = {key.decode() async for key in queue.db.scan_iter(f"ew:{{{queue.model}}}:*")}
    kinds = {key.split(":")[2] for key in found}
    assert not kinds & {"flow", "turns", "lanes", "ages", "places"}


keys = st.sampled_from("abcd")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.integers(1, 256)),
        st.tuples(st.just("claim"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 600)),
        st.tuples(st.just("yield"), st.integers(0, 9)),
    ),
    max_size=60,
)
weights = st.fixed_dictionaries({key: st.sampled_from([0.5, 1.0, 4.0]) for key in "abcd"})


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(steps, weights)
def test_no_order_of_events_idles_starves_or_loses(
    redis_url: str, steps: list[tuple[Any, ...]], weights: dict[str, float]
) -> None:
    asyncio.run(_live_through(redis_url, steps, weights))


async def _live_through(url: str, steps: list[tuple[Any, ...]], weights: dict[str, float]) -> None:
    db = connect(url)
    queue = JobQueue(db, f"m-{uuid.uuid4().hex[:8]}")
    await serve(queue)
    await queue.open()
    waiting: list[str] = []
    running: list[Attempt] = []
    for number, (what, *how) in enumerate(steps):
        if what == "put":
            key, tokens = how
            job_id = f"{key}{number}"
            await ask(queue, job_id, key, tokens=tokens, turn=Turn(weight=weights[key]))
            waiting.append(job_id)
        elif what == "claim" and waiting:
            claims = await claim(queue, db, "w", how[0])
            # Work conserving: whatever waits, a worker with room gets some.
            assert len(claims) == min(how[0], len(waiting))
            for each in claims:
                waiting.remove(each.job_id)
            running += attempts(await queue.begin("w", claims))
        elif what == "end" and running:
            assert await queue.complete("w", [Ended(running.pop(0), "done", JobUse(how[0]))]) == 0
        elif what == "yield" and running:
            attempt = running.pop(how[0] % len(running))
            assert await queue.yield_place("w", attempt)
            waiting.append(attempt.job.id)
        assert await count_waiting(queue) == len(waiting)
    assert sorted(await order(queue, len(waiting))) == sorted(waiting)
    await nothing_is_left(queue)
    await db.aclose()


backlogs = st.dictionaries(
    keys,
    st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.lists(st.integers(1, 256), min_size=1)),
    min_size=2,
    max_size=4,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(backlogs)
def test_between_two_keys_that_wait_no_share_is_ahead_by_more_than_a_job_of_each(
    redis_url: str, backlogs: dict[str, tuple[float, list[int]]]
) -> None:
    asyncio.run(_share(redis_url, backlogs))


async def _share(url: str, backlogs: dict[str, tuple[float, list[int]]]) -> None:
    """The bound of start-time fair queueing, theorem 1: |Wa/wa - Wb/wb| <= la/wa + lb/wb."""
    db = connect(url)
    queue = JobQueue(db, f"m-{uuid.uuid4().hex[:8]}")
    await serve(queue)
    await queue.open()
    costs, left = {}, Counter[str]()
    for key, (weight, tokens) in backlogs.items():
        for number, each in enumerate(tokens):
            await ask(queue, f"{key}{number}", key, tokens=each, turn=Turn(weight=weight))
            costs[f"{key}{number}"] = each
        left[key] = len(tokens)
    got = Counter[str]()
    while all(left[key] for key in backlogs):
        (job_id,) = await order(queue, 1)
        got[job_id[0]] += costs[job_id]
        left[job_id[0]] -= 1
        shares = {key: got[key] / weight for key, (weight, _) in backlogs.items()}
        longest = {key: max(tokens) / weight for key, (weight, tokens) in backlogs.items()}
        for a in backlogs:
            for b in backlogs:
                assert abs(shares[a] - shares[b]) <= longest[a] + longest[b] + 1e-6
    await db.aclose()


async def commands(db: RedisClient) -> int:
    info = await db.info("commandstats")
    return sum(each["calls"] for name, each in info.items() if name != "cmdstat_info")


async def test_a_turn_costs_the_same_among_ten_thousand_keys(own_valkey: ValkeyServer) -> None:
    """In commands, which no other load on this host can change; all are O(log n)."""
    db = connect(own_valkey.url)
    queue = JobQueue(db, "m")
    await queue.open()
    await serve(queue)
    costs = []
    for keys_waiting in (10, 10_000):
        pipe = db.pipeline(transaction=False)
        for number in range(await count_waiting(queue), keys_waiting):
            # As an earlier ew does, which is the quickest.
            job = Job(f"j{number}", "m", Sampling(), prompt="x", key_id=f"key{number}")
            pipe.xadd(queue.key, {"job": encode_job(job)})
        await pipe.execute()
        await run(queue, await claim(queue, db, "w", 1), 100)
        before = await commands(db)
        await ask(queue, f"last{keys_waiting}", f"last{keys_waiting}")
        (found,) = await claim(queue, db, "w", 1)
        costs.append(await commands(db) - before)
        await run(queue, [found], 100)
    assert costs[1] <= costs[0] + 2, costs
    await db.aclose()
