"""The use of jobs is counted by key, model and day: once, whichever worker is lost meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import pytest
from redis.asyncio import Redis

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Attempt, Ended
from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.records.last_uses import read_last_uses
from contract.bus.records.usage_accounts import (
    TooManyRows,
    UsageAccounts,
    UsageCounts,
    UsageRow,
    UsageSums,
    summed,
)
from contract.bus.records.use_progress import UseProgress
from contract.messages import Job, Sampling
from contract.usage import JobUse
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import (
    attempts,
    begin_one,
    lose,
    put_one,
    restore,
    serve,
    snapshot,
)

USE = JobUse(10, 4, 20, 5, 300)


async def ask(queue: JobQueue, job_id: str, key: str = "anna") -> None:
    job = Job(job_id, queue.model, Sampling(max_tokens=1), prompt="x", key_id=key)
    bounds = {"max_waiting": 100, "deadline_ms": 60_000}
    await put_one(queue, job, "ew:out:g", "0", **bounds)  # type: ignore[arg-type]


async def begun(
    queue: JobQueue, db: Redis, job_id: str, worker: str = "w", key: str = "anna"
) -> Attempt:
    await ask(queue, job_id, key)
    return await begin_one(queue, db, worker)


async def today(db: Redis) -> date:
    seconds, _ = await db.time()
    return datetime.fromtimestamp(seconds, UTC).date()


async def counted(queue: JobQueue, key: str = "anna") -> UsageCounts:
    """Return what a key has used of the queue's model, on one day or two."""
    day = await today(queue.db)
    models, accounts = [queue.model], UsageAccounts(queue.db)
    rows = await accounts.report(day - timedelta(1), day, by=("model",), key=key, models=models)
    return next((row.counts for row in rows if row.model == queue.model), UsageCounts())


async def test_a_job_counts_once_when_it_ends(queue: JobQueue, db: Redis) -> None:
    attempt = await begun(queue, db, "a")
    assert await counted(queue) == UsageCounts()
    for _ in range(2):
        assert await queue.complete("w", [Ended(attempt, "done", USE)]) == 0
    assert await counted(queue) == UsageCounts(1, 0, 0, *USE)
    again = await begun(queue, db, "b")
    await queue.complete("w", [Ended(again, "failed", JobUse(1, engine_ms=10))])
    assert await counted(queue) == UsageCounts(2, 1, 0, 11, 4, 20, 5, 310)


async def test_keys_and_days_are_kept_apart_and_for_so_many_days(
    db: Redis, unique_model: str
) -> None:
    queue = JobQueue(db, unique_model, usage_days=3)
    await queue.open()
    await serve(queue)
    await UseProgress(db, queue.model).open()
    for key in ("anna", "bert", ""):
        await ask(queue, f"of-{key}", key)
        await queue.complete("w", [Ended(await begin_one(queue, db, "w"), "done", USE)])
    day = await today(db)
    rows = await UsageAccounts(db).report(day, day)
    mine = [row for row in rows if row.model == queue.model]
    once = UsageCounts(1, 0, 0, *USE)
    assert mine == [
        UsageRow(key, queue.model, day.isoformat(), once) for key in ("", "anna", "bert")
    ]
    assert await UsageAccounts(db).report(day - timedelta(2), day - timedelta(1), key="bert") == []
    assert 2 * 86_400 < await db.ttl(f"ew:{{{queue.model}}}:usage:{day:%Y%m%d}") <= 3 * 86_400


async def test_the_last_use_of_a_key_is_the_end_of_its_last_job_of_any_model(
    own_valkey: ValkeyServer,
) -> None:
    db = connect(own_valkey.url)
    for model, key in (("a", "anna"), ("b", "anna"), ("b", "")):
        queue = JobQueue(db, model)
        await queue.open()
        await serve(queue)
        attempt = await begun(queue, db, f"of-{key}", key=key)
        assert (await read_last_uses(db)).keys() == ({"anna"} if model == "b" else set())
        await queue.complete("w", [Ended(attempt, "done", USE)])
    seconds, _ = await db.time()
    assert seconds - 60 < (await read_last_uses(db))["anna"] <= seconds
    now = datetime.fromtimestamp(seconds, UTC)
    month = f"ew:usage:last:{now:%Y%m}"
    assert 399 * 86_400 < await db.ttl(month) <= 400 * 86_400
    before = f"ew:usage:last:{now - timedelta(now.day):%Y%m}"
    await db.hset(before, mapping={"anna": 1, "bert": 2})
    uses = await read_last_uses(db)
    assert uses["anna"] > 2 == uses["bert"]
    await db.aclose()


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        ((), [(None, None, None, 3)]),
        (("key",), [("a", None, None, 2), ("b", None, None, 1)]),
        (("day", "key"), [("a", None, "1", 1), ("a", None, "2", 1), ("b", None, "2", 1)]),
    ],
)
def test_rows_are_summed_over_what_is_not_asked_for(
    by: tuple[str, ...], wanted: list[tuple[str | None, str | None, str | None, int]]
) -> None:
    rows = [
        UsageRow(key, "m", day, UsageCounts(1)) for key, day in (("b", "2"), ("a", "2"), ("a", "1"))
    ]
    found = summed(rows, by)  # type: ignore[arg-type]
    assert [(*row[:3], row.counts.requests) for row in found] == wanted


async def test_a_year_of_many_keys_does_not_hold_up_the_loop(
    db: Redis, unique_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, days = await today(db), 20
    counts = dict.fromkeys((f"key{number}" for number in range(50)), "1 0 0 2 0 3 0 4")
    for number in range(days):
        name = f"ew:{{{unique_model}}}:usage:{day - timedelta(number):%Y%m%d}"
        await db.hset(name, mapping=counts)
        await db.expire(name, 60)
    added: list[tuple[int, bool]] = []
    add = UsageSums.add

    def note(sums: UsageSums, rows: Iterable[UsageRow]) -> None:
        given = [*rows]
        added.append((len(given), threading.current_thread() is threading.main_thread()))
        add(sums, given)

    monkeypatch.setattr(UsageSums, "add", note)
    since = day - timedelta(days - 1)
    accounts, own = UsageAccounts(db), [unique_model]
    rows = await accounts.report(since, day, by=("model",), models=own)
    (row,) = [row for row in rows if row.model == unique_model]
    assert row.counts == UsageCounts(1000, 0, 0, 2000, 0, 3000, 0, 4000)
    assert not any(in_loop for _, in_loop in added)
    assert max(size for size, _ in added) < 1000, "some days at a time"
    with pytest.raises(TooManyRows):
        await accounts.report(since, day, models=own, most=999)


async def test_an_attempt_that_was_fenced_off_counts_nothing(queue: JobQueue, db: Redis) -> None:
    old = await begun(queue, db, "a", "w0")
    (new,) = attempts(await lose(queue, "w0", "w1"))
    assert await queue.complete("w0", [Ended(old, "done", USE)]) == 1
    assert await counted(queue) == UsageCounts()
    assert await queue.complete("w1", [Ended(new, "done", USE)]) == 0
    assert await queue.complete("w0", [Ended(old, "done", USE)]) == 1
    assert await counted(queue) == UsageCounts(1, 0, 0, *USE)


async def test_what_a_lost_worker_said_last_counts_once(queue: JobQueue, db: Redis) -> None:
    await begun(queue, db, "a", "w0")
    await UseProgress(db, queue.model).note("w0", {"a": JobUse(10, 0, 50, 7, 900)}, [])
    (second,) = attempts(await lose(queue, "w0", "w1"))
    await UseProgress(db, queue.model).note("w1", {"a": JobUse(10, 0, 60, 7, 100)}, [])
    (third,) = attempts(await lose(queue, "w1", "w2"))
    assert await queue.complete("w1", [Ended(second, "done", USE)]) == 1
    await queue.complete("w2", [Ended(third, "failed", JobUse(engine_ms=1))])
    assert await counted(queue) == UsageCounts(1, 1, 0, 10, 0, 60, 7, 1001)


async def test_an_answer_counts_as_its_client_was_told_and_time_of_all_attempts(
    queue: JobQueue, db: Redis
) -> None:
    await begun(queue, db, "a", "w0")
    await UseProgress(db, queue.model).note("w0", {"a": JobUse(10, 0, 50, 7, 900)}, [])
    (second,) = attempts(await lose(queue, "w0", "w1"))
    await queue.complete("w1", [Ended(second, "done", USE)])
    assert await counted(queue) == UsageCounts(1, 0, 0, *USE[:4], 1200)


async def test_what_was_given_back_counts_with_the_rest(queue: JobQueue, db: Redis) -> None:
    first = await begun(queue, db, "a", "w0")
    await UseProgress(db, queue.model).note("w0", {"a": JobUse(10, 0, 5, 0, 50)}, [])
    await queue.release("w0", [first], {"a": JobUse(10, 0, 6, 0, 60)})
    (second,) = attempts(await queue.begin("w0", await queue.take_over("w0", 10)))
    assert await queue.yield_place("w0", second, JobUse(10, 0, 8, 0, 20))
    third = await begin_one(queue, db, "w0")
    # It dies before it has said anything of this attempt.
    (last,) = attempts(await lose(queue, "w0", "w1"))
    assert third.number < last.number
    await queue.complete("w1", [Ended(last, "failed", JobUse(10, 0, 7, 0, 1))])
    assert await counted(queue) == UsageCounts(1, 1, 0, 10, 0, 8, 0, 81)


@pytest.mark.parametrize("when", ["waiting", "lost", "at begin", "given back"])
async def test_a_cancelled_job_counts_what_it_used_before(
    queue: JobQueue, db: Redis, when: str
) -> None:
    cancellations = Cancellations(db, queue.model)
    used = JobUse(10, 0, 50, 0, 900)
    if when == "waiting":
        await ask(queue, "a")
        await cancellations.announce("a")
        assert await counted(queue) == UsageCounts(1, 0, 1)
        return
    attempt = await begun(queue, db, "a", "w0")
    if when == "given back":
        await db.hset(queue.job_key("a"), "cancelled", 1)
        await queue.release("w0", [attempt], {"a": used})
    else:
        await UseProgress(db, queue.model).note("w0", {"a": used}, [])
        if when == "at begin":
            await db.hset(queue.job_key("a"), "cancelled", 1)
            assert await lose(queue, "w0", "w1") == []
        else:
            await cancellations.announce("a")
    await cancellations.announce("a")
    assert await counted(queue) == UsageCounts(1, 0, 1, *used)


async def test_what_has_ended_is_no_progress_any_more(queue: JobQueue, db: Redis) -> None:
    await UseProgress(db, queue.model).note("w", {"a": USE, "b": USE}, [])
    await UseProgress(db, queue.model).note("w", {"b": USE}, ["a"])
    assert await db.hkeys(UseProgress(db, queue.model).key("w")) == [b"b"]
    await UseProgress(db, queue.model).note("w", {}, ["b"])
    assert not await db.exists(UseProgress(db, queue.model).key("w"))


async def test_a_server_that_lost_an_end_counts_it_once_all_the_same(
    own_valkey: ValkeyServer,
) -> None:
    db = connect(own_valkey.url)
    queue = JobQueue(db, "m")
    await queue.open()
    await serve(queue)
    attempt = await begun(queue, db, "a")
    older = await snapshot(db)
    await queue.complete("w", [Ended(attempt, "done", USE)])
    await restore(db, older)
    assert await counted(queue) == UsageCounts()
    for _ in range(2):
        await queue.complete("w", [Ended(attempt, "done", USE)])
    assert await counted(queue) == UsageCounts(1, 0, 0, *USE)
    await db.aclose()
