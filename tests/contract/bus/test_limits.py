"""Limits of keys and groups, on the real server: what is let in, and what is settled."""

from __future__ import annotations

import asyncio
import calendar
import time
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended
from contract.bus.client import RedisClient, connect
from contract.bus.queue import JobQueue
from contract.bus.tickets import QueueFull, Ticket
from contract.limits import Consumption, KeyLimits, LimitReached
from contract.messages import Job, Sampling
from contract.usage import JobUse
from tests.contract.queue_workers import attempts, begin_one, claim, count_waiting, lose, put_one


async def ask(
    queue: JobQueue, job_id: str, subject: str, tokens: int = 10, **limits: int
) -> Ticket:
    return await ask_for(queue, job_id, Consumption(tokens, ((subject, KeyLimits(**limits)),)))


async def ask_for(
    queue: JobQueue, job_id: str, consumption: Consumption, deadline_ms: int = 60_000
) -> Ticket:
    job = Job(job_id, queue.model, Sampling(max_tokens=1), prompt="x", key_id="k")
    bounds: dict[str, Any] = {"max_waiting": 1000, "deadline_ms": deadline_ms}
    return await put_one(queue, job, "ew:out:g", "0", consumption=consumption, **bounds)


@pytest.fixture
def key(unique_model: str) -> str:
    return f"key:{unique_model}"


async def let_time_pass(db: RedisClient, subject: str, seconds: int) -> None:
    """Let the counts so far be so much older."""
    for what in ("requests", "tokens"):
        key = f"ew:limit:{subject}:{what}"
        counts = {name.decode(): int(n) for name, n in (await db.hgetall(key)).items()}
        older = {"total": counts.pop("total"), "from": counts.pop("from") - seconds}
        older |= {str(int(second) - seconds): n for second, n in counts.items()}
        await db.delete(key)
        await db.hset(key, mapping=older)


async def refused(queue: JobQueue, subject: str, tokens: int = 10, **limits: int) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await ask(queue, "one more", subject, tokens, **limits)
    assert await queue.db.exists(queue.job_key("one more")) == 0
    return caught.value


async def test_requests_of_any_minute_are_counted(queue: JobQueue, db: Redis, key: str) -> None:
    for number in range(3):
        ticket = await ask(queue, f"j{number}", key, requests_per_minute=3)
        assert ticket.counted[0].requests == number + 1
    reached = await refused(queue, key, requests_per_minute=3)
    assert (reached.name, reached.limit, reached.used) == ("requests_per_minute", 3, 3)
    assert 59 <= reached.wait_s <= 61
    await let_time_pass(db, key, 50)
    assert 9 <= (await refused(queue, key, requests_per_minute=3)).wait_s <= 11
    await let_time_pass(db, key, 11)
    assert (await ask(queue, "later", key, requests_per_minute=3)).counted[0].requests == 1


async def test_a_job_without_limits_leaves_no_count(queue: JobQueue, db: Redis) -> None:
    ticket = await ask_for(queue, "a", Consumption())
    assert ticket.counted == ()
    attempt = await begin_one(queue, db, "w")
    await queue.complete("w", [Ended(attempt, "done", JobUse(25))])
    fields = await db.hgetall(queue.job_key("a"))
    assert not {b"subjects", b"reserved", b"let_in"} & {*fields}


async def test_tokens_are_reserved_and_settled(queue: JobQueue, db: Redis, key: str) -> None:
    await ask(queue, "a", key, 80, tokens_per_minute=100)
    reached = await refused(queue, key, 30, tokens_per_minute=100)
    assert (reached.name, reached.used) == ("tokens_per_minute", 80)
    attempt = await begin_one(queue, db, "w")
    await queue.complete("w", [Ended(attempt, "done", JobUse(25))])
    await queue.complete("w", [Ended(attempt, "done", JobUse(25))])
    ticket = await ask(queue, "b", key, 75, tokens_per_minute=100)
    assert ticket.counted[0].tokens == 100


async def test_what_took_more_than_reserved_counts_when_it_ends(
    queue: JobQueue, db: Redis, key: str
) -> None:
    await ask(queue, "a", key, 10, tokens_per_minute=100)
    attempt = await begin_one(queue, db, "w")
    await let_time_pass(db, key, 200)
    await db.hincrby(queue.job_key("a"), "let_in", -200)
    await queue.complete("w", [Ended(attempt, "done", JobUse(90))])
    assert (await refused(queue, key, 30, tokens_per_minute=100)).used == 80


async def test_a_clock_that_is_set_back_an_hour_keeps_nobody_out_for_an_hour(
    queue: JobQueue, db: Redis, key: str
) -> None:
    """By Redis' clock what was counted is of the future then, and still counts for a minute."""
    limits = {"requests_per_minute": 2, "tokens_per_minute": 100}
    await ask(queue, "a", key, 60, **limits)
    attempt = await begin_one(queue, db, "w")
    await let_time_pass(db, key, -3600)
    await db.hincrby(queue.job_key("a"), "let_in", 3600)
    reached = await refused(queue, key, 60, **limits)
    assert (reached.name, reached.used, reached.wait_s) == ("tokens_per_minute", 60, 61)
    # It is settled where it counts now, and goes with it: nothing is left that would give more.
    await queue.complete("w", [Ended(attempt, "done", JobUse(20))])
    await ask(queue, "b", key, 60, **limits)
    assert (await refused(queue, key, 1, **limits)).name == "requests_per_minute"
    await let_time_pass(db, key, 70)
    await ask(queue, "c", key, 100, **limits)
    assert (await refused(queue, key, 1, **limits)).used == 100


async def test_a_request_that_alone_is_too_large_never_has_room(queue: JobQueue, key: str) -> None:
    reached = await refused(queue, key, 101, tokens_per_minute=100)
    assert reached.wait_s == -1


async def test_requests_at_once_are_those_that_wait_and_run(
    queue: JobQueue, db: Redis, key: str
) -> None:
    await ask(queue, "a", key, open_requests=2)
    attempt = await begin_one(queue, db, "w")
    await ask(queue, "b", key, open_requests=2)
    assert (await refused(queue, key, open_requests=2)).name == "open_requests"
    await queue.complete("w", [Ended(attempt, "done")])
    await ask(queue, "c", key, open_requests=2)


async def test_what_waits_is_counted_until_a_worker_begins_it(
    queue: JobQueue, db: Redis, key: str
) -> None:
    for turn, limits in enumerate([{"waiting_requests": 2}, {"waiting_bytes": 200}]):
        await ask(queue, f"a{turn}", key, **limits)
        await ask(queue, f"b{turn}", key, **limits)
        assert (await refused(queue, key, **limits)).name in limits
        first = await claim(queue, db, "w", 1)
        assert (await refused(queue, key, **limits)).name in limits
        attempts(await queue.begin("w", first))
        await ask(queue, f"c{turn}", key, **limits)
        attempts(await queue.begin("w", await claim(queue, db, "w", 9)))


async def test_a_job_that_may_stay_long_is_not_forgotten_with_a_shorter_one(
    queue: JobQueue, key: str
) -> None:
    consumption = Consumption(1, ((key, KeyLimits(open_requests=2, waiting_requests=2)),))
    await ask_for(queue, "long", consumption, deadline_ms=86_400_000)
    await ask_for(queue, "short", consumption)
    for what in ("open", "waiting"):
        assert await queue.db.pttl(f"ew:limit:{key}:{what}") > 80_000_000


async def test_budgets_are_of_days_and_months_of_utc(queue: JobQueue, db: Redis, key: str) -> None:
    await ask(queue, "a", key, 60, tokens_per_day=100, tokens_per_month=150)
    reached = await refused(queue, key, 60, tokens_per_day=100)
    seconds, _ = await db.time()
    assert abs(reached.wait_s - (86_400 - seconds % 86_400)) <= 1
    # Yesterday's tokens are of this month, but for its first day.
    spent = f"ew:limit:{key}:spent"
    await db.hdel(spent, f"d{seconds // 86_400}")
    await ask(queue, "b", key, 60, tokens_per_day=100, tokens_per_month=150)
    reached = await refused(queue, key, 60, tokens_per_month=150)
    now = time.gmtime(seconds)
    days = calendar.monthrange(now.tm_year, now.tm_mon)[1] - now.tm_mday
    assert abs(reached.wait_s - (days * 86_400 + 86_400 - seconds % 86_400)) <= 1
    assert f"m{now.tm_year}{now.tm_mon:02}".encode() in await db.hgetall(spent)


async def test_months_are_those_of_the_calendar(db: Redis) -> None:
    """On the first and the last day of each, over a leap year and one of a century."""
    script = "\n".join(
        [
            (await asyncio.to_thread(_source)),
            "local found = {}",
            "for _, day in ipairs(ARGV) do local month = month_of(tonumber(day))"
            " table.insert(found, month) end return found",
        ]
    )
    days, wanted = [], []
    for year in (1972, 1999, 2000, 2026, 2028, 2100):
        for month in range(1, 13):
            for day in (1, calendar.monthrange(year, month)[1]):
                days.append(calendar.timegm((year, month, day, 0, 0, 0)) // 86_400)
                wanted.append(year * 100 + month)
    assert await db.eval(script, 0, *days) == wanted


def _source() -> str:
    from contract.bus.client import LuaScript

    return LuaScript("limits").source


async def test_a_group_is_counted_beside_its_keys(queue: JobQueue, key: str) -> None:
    def consumption(number: int) -> Consumption:
        own = (f"{key}{number}", KeyLimits(requests_per_minute=2))
        return Consumption(1, (own, (f"group:{key}", KeyLimits(requests_per_minute=3))))

    for name, number in [("a", 1), ("b", 1), ("c", 2)]:
        await ask_for(queue, name, consumption(number))
    with pytest.raises(LimitReached, match="group"):
        await ask_for(queue, "d", consumption(2))
    with pytest.raises(LimitReached) as caught:
        await ask_for(queue, "d", consumption(1))
    assert caught.value.subject == f"{key}1"


async def test_asking_for_the_same_job_again_counts_once(queue: JobQueue, key: str) -> None:
    for _ in range(3):
        await ask(queue, "a", key, requests_per_minute=1)


@pytest.mark.parametrize("when", ["waiting", "claimed", "running"])
async def test_a_cancelled_job_takes_no_place_and_only_the_tokens_that_it_may_have_had(
    queue: JobQueue, db: Redis, key: str, when: str
) -> None:
    limits = {"open_requests": 1, "tokens_per_minute": 100, "waiting_requests": 1}
    await ask(queue, "a", key, 60, **limits)
    claims = await claim(queue, db, "w") if when != "waiting" else []
    begun = attempts(await queue.begin("w", claims)) if when == "running" else []
    await Cancellations(db, queue.model).announce("a")
    if when == "claimed":
        await queue.begin("w", claims)
    await queue.release("w", begun)
    ticket = await ask(queue, "b", key, 40, **limits)
    assert ticket.counted[0].tokens == (100 if when == "running" else 40)


async def test_a_lost_worker_changes_nothing(queue: JobQueue, db: Redis, key: str) -> None:
    await ask(queue, "a", key, 60, open_requests=1, tokens_per_minute=100)
    await begin_one(queue, db, "w0")
    (again,) = attempts(await lose(queue, "w0", "w1"))
    assert (await refused(queue, key, open_requests=1)).used == 1
    await queue.complete("w1", [Ended(again, "done", JobUse(20))])
    ticket = await ask(queue, "b", key, 80, open_requests=1, tokens_per_minute=100)
    assert ticket.counted[0].tokens == 100


async def ask_together(
    queue: JobQueue, job_ids: str, subject: str, *, max_waiting: int = 1000, **limits: int
) -> list[Any]:
    """Put a job of 10 tokens for each letter, as the prompts of one request."""
    jobs = [Job(each, queue.model, Sampling(), prompt="x", key_id="k") for each in job_ids]
    consumptions = [Consumption(10, ((subject, KeyLimits(**limits)),)) for _ in jobs]
    bounds: dict[str, Any] = {"max_waiting": max_waiting, "deadline_ms": 60_000}
    return await queue.put_all(jobs, "ew:out:g", "0", consumptions=consumptions, **bounds)


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": 4},
        {"tokens_per_minute": 45},
        {"open_requests": 4},
        {"waiting_requests": 4},
        {"waiting_bytes": 250},
        {"tokens_per_day": 45},
        {"tokens_per_month": 45},
    ],
    ids=lambda limits: next(iter(limits)),
)
async def test_the_jobs_of_one_request_come_in_together_or_not_at_all(
    queue: JobQueue, db: Redis, key: str, limits: dict[str, int]
) -> None:
    await ask_together(queue, "ab", key, **limits)
    with pytest.raises(LimitReached) as caught:
        await ask_together(queue, "cdefg", key, **limits)
    assert caught.value.wait_s == -1, "together they never have room"
    with pytest.raises(LimitReached) as caught:
        await ask_together(queue, "cde", key, **limits)
    assert caught.value.wait_s > 0
    assert await count_waiting(queue) == 2
    assert not await db.exists(*(queue.job_key(each) for each in "cdefg"))
    tickets = await ask_together(queue, "cd", key, **limits)
    assert [ticket.waiting for ticket in tickets] == [2, 3]
    assert {ticket.counted[0][:2] for ticket in tickets} == {(4, 40)}


async def test_each_job_of_a_request_is_settled_by_itself(
    queue: JobQueue, db: Redis, key: str
) -> None:
    limits = {"tokens_per_minute": 100, "open_requests": 3}
    await ask_together(queue, "abc", key, **limits)
    a, b, _ = attempts(await queue.begin("w", await claim(queue, db, "w")))
    await queue.complete("w", [Ended(a, "done", JobUse(2)), Ended(b, "failed", JobUse(60))])
    (ticket,) = await ask_together(queue, "d", key, **limits)
    # a, b, and what c and d may take.
    assert ticket.counted[0].tokens == 2 + 60 + 10 + 10


async def test_of_a_request_that_is_put_again_only_what_is_new_needs_room(
    queue: JobQueue, db: Redis, key: str
) -> None:
    limits = {"requests_per_minute": 3}
    await ask_together(queue, "ab", key, **limits)
    again = await ask_together(queue, "abc", key, **limits)
    assert [ticket.known for ticket in again] == [True, True, False]
    again = await ask_together(queue, "abc", key, max_waiting=1, **limits)
    assert [ticket.known for ticket in again] == [True] * 3
    assert await count_waiting(queue) == 3


async def test_a_queue_without_room_for_all_jobs_of_a_request_takes_none(
    queue: JobQueue, key: str
) -> None:
    with pytest.raises(QueueFull):
        await ask_together(queue, "abc", key, max_waiting=2, requests_per_minute=3)
    assert await count_waiting(queue) == 0
    await ask_together(queue, "abc", key, max_waiting=3, requests_per_minute=3)


async def test_many_at_once_over_several_gateways_get_no_more(
    queue: JobQueue, redis_url: str, key: str
) -> None:
    gateways = [connect(redis_url) for _ in range(3)]
    queues = [JobQueue(db, queue.model) for db in gateways]
    asked = [ask(queues[n % 3], f"j{n}", key, requests_per_minute=10) for n in range(60)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(each, Ticket) for each in answers) == 10
    assert sum(isinstance(each, LimitReached) for each in answers) == 50
    for db in gateways:
        await db.aclose()


def test_own_limits_go_before_the_default() -> None:
    default = KeyLimits(requests_per_minute=5, tokens_per_day=7)
    own = KeyLimits(requests_per_minute=9)
    assert own.over(default) == KeyLimits(requests_per_minute=9, tokens_per_day=7)
    assert not KeyLimits()


async def test_counts_of_a_key_that_cannot_be_read_fail_no_other_request(
    queue: JobQueue, db: Redis
) -> None:
    """Its requests share a call with those of others."""
    broken, sound = f"key:{queue.model}-broken", f"key:{queue.model}-sound"
    await db.set(f"ew:limit:{broken}:requests", "no hash")
    asked = [
        ask(queue, f"j{number}", broken if number == 2 else sound, requests_per_minute=10)
        for number in range(5)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[2], ResponseError)
    assert "WRONGTYPE" in str(answers[2])
    others = [each for each in answers if isinstance(each, Ticket)]
    assert [each.waiting for each in others] == [0, 1, 2, 3]
    assert await db.hget(f"ew:limit:{sound}:requests", "total") == b"4"
    assert len(await claim(queue, db, "w")) == 4
