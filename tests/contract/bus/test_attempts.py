"""An attempt's number fences: only the last attempt at a job can end it, and only once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from redis.asyncio import Redis

from contract.bus.claims import BeginRefused, Claim, Ended, Record
from contract.bus.client import connect
from contract.bus.connection.direct import Command
from contract.bus.connection.gathered_calls import MOST_AT_ONCE
from contract.bus.queue import MAX_ATTEMPTS, JobQueue
from contract.bus.records.worker_ends import WorkerEnds
from contract.endings import EndedBy
from contract.wire import encode_job
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import (
    a_job,
    attempts,
    beat,
    begin,
    begin_one,
    claim,
    count_waiting,
    end_lease,
    lose,
    put,
    restore,
    serve,
    snapshot,
    state_of,
)


async def test_attempts_are_counted_from_one_and_their_numbers_grow(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    first = await begin_one(queue, db, "w0")
    (second,) = attempts(await lose(queue, "w0", "w1"))
    assert (first.ordinal, second.ordinal) == (1, 2)
    assert first.number < second.number


async def test_a_server_that_lost_an_attempt_does_not_give_its_number_again(
    own_valkey: ValkeyServer,
) -> None:
    db = connect(own_valkey.url)
    queue = JobQueue(db, "m")
    await serve(queue)
    await put(queue, "a")
    older = await snapshot(db)
    lost = await begin_one(queue, db, "w0")
    await restore(db, older)
    again = await begin_one(queue, db, "w1")
    assert again.ordinal == lost.ordinal, "nothing was lost"
    assert again.number > lost.number
    assert await queue.owners(["a"]) == {"a": again.number}
    assert await queue.complete("w0", [Ended(lost, "done")]) == 1
    await db.aclose()


async def test_a_clock_that_was_set_back_gives_higher_numbers_all_the_same(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    first = await begin_one(queue, db, "w0")
    ahead = first.number + 3_600_000_000
    await db.hset(queue.job_key("a"), "attempt", str(ahead))
    (second,) = attempts(await lose(queue, "w0", "w1"))
    assert second.number == ahead + 1


async def test_an_old_attempt_can_neither_end_nor_release_the_job(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    old = await begin_one(queue, db, "w0")
    (new,) = attempts(await lose(queue, "w0", "w1"))
    assert await queue.complete("w0", [Ended(old, "failed")]) == 1
    await queue.release("w0", [old])
    assert await state_of(queue, "a") == "running"
    assert await db.xlen(queue.key) == 1
    (pending,) = await db.xpending_range(queue.key, "workers", "-", "+", 9)
    assert pending["consumer"] == b"w1"
    assert await queue.complete("w1", [Ended(new, "done")]) == 0
    assert await state_of(queue, "a") == "done"


async def test_the_number_alone_is_not_enough_to_end_a_job(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w0")
    assert await queue.complete("impostor", [Ended(attempt, "done")]) == 1
    assert await state_of(queue, "a") == "running"


async def test_completing_twice_is_safe_and_the_first_end_stays(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    assert await queue.complete("w", [Ended(attempt, "done")]) == 0
    assert await queue.complete("w", [Ended(attempt, "failed")]) == 0
    assert await state_of(queue, "a") == "done"
    assert await count_waiting(queue) == 0


async def test_fenced_attempts_are_counted_among_those_that_end(queue: JobQueue, db: Redis) -> None:
    for job_id in "ab":
        await put(queue, job_id)
    a, b = attempts(await begin(queue, db, "w0"))
    fenced = await queue.complete("w0", [Ended(a, "done"), Ended(b._replace(number=7), "done")])
    assert fenced == 1
    assert [await state_of(queue, job_id) for job_id in "ab"] == ["done", "running"]


async def test_a_job_past_its_deadline_is_refused_and_not_run(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a", deadline_ms=0)
    (refused,) = await begin(queue, db, "w")
    assert isinstance(refused, BeginRefused)
    assert refused.reason == "expired"
    assert (refused.attempt.ordinal, refused.attempt.reply) == (1, "ew:out:nobody")


async def test_a_refusal_that_its_worker_never_told_is_told_by_the_next(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a", deadline_ms=0)
    await begin(queue, db, "w0")
    (refused,) = await lose(queue, "w0", "w1")
    assert isinstance(refused, BeginRefused)
    assert await queue.complete("w1", [Ended(refused.attempt, "failed")]) == 0
    assert await lose(queue, "w1", "w2") == []
    assert await state_of(queue, "a") == "failed"


async def test_a_job_that_broke_every_worker_is_refused_with_one_dead_letter(
    queue: JobQueue, db: Redis
) -> None:
    # Of long ago: its prompt is not kept for as long as others come.
    await db.xadd(queue.dead_letters.key, {"reason": "poison"}, id="1-1")
    await put(queue, "a")
    await begin(queue, db, "w0")
    for n in range(1, MAX_ATTEMPTS):
        attempts(await lose(queue, f"w{n - 1}", f"w{n}"))
    (refused,) = await lose(queue, f"w{MAX_ATTEMPTS - 1}", "x")
    assert isinstance(refused, BeginRefused)
    assert (refused.reason, refused.attempt.ordinal) == ("poison", MAX_ATTEMPTS + 1)
    (again,) = await lose(queue, "x", "y")
    assert isinstance(again, BeginRefused)
    ((_, dead),) = await db.xrange(queue.dead_letters.key)
    assert dead == {
        b"reason": b"poison",
        b"workers": b" w0 w1 w2",
        b"job": encode_job(a_job(queue, "a")),
    }
    assert await queue.dead_letters.broken_since("0") == (frozenset({"w0", "w1", "w2"}), ANY)


async def test_a_dead_letter_is_kept_as_long_as_configured(db: Redis, unique_model: str) -> None:
    queue = JobQueue(db, unique_model, letter_days=2)
    await serve(queue)
    await put(queue, "a")
    await begin(queue, db, "w0")
    for n in range(1, MAX_ATTEMPTS + 1):
        await lose(queue, f"w{n - 1}", f"w{n}")
    two_days_ms = 2 * 86_400_000
    assert two_days_ms - 60_000 < await db.pttl(queue.dead_letters.key) <= two_days_ms


async def test_who_only_was_there_when_workers_broke_is_never_called_poison(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await begin(queue, db, "w0")
    for n in range(1, 5 * MAX_ATTEMPTS):
        attempts(await lose(queue, f"w{n - 1}", f"w{n}", alone=False))
    assert await db.xlen(queue.dead_letters.key) == 0


@pytest.mark.parametrize(
    ("ended_by", "losses"), [(EndedBy.ITSELF, 1), (EndedBy.UNCLEAR, 2), (EndedBy.OUTSIDE, 4)]
)
async def test_a_loss_counts_by_what_ended_the_worker(
    queue: JobQueue, db: Redis, ended_by: EndedBy, losses: int
) -> None:
    await put(queue, "a")
    await queue.begin("w0", await claim(queue, db, "w0"))
    for n in range(1, MAX_ATTEMPTS + 1):
        # Beside others, so it is not known whether it is to blame.
        await lose(queue, f"w{n - 1}", f"w{n}", alone=n == MAX_ATTEMPTS)
    begun = [await lose(queue, f"w{n + 2}", f"w{n + 3}", ended_by=ended_by) for n in range(1, 9)]
    poison = [isinstance(each, BeginRefused) for (each,) in begun]
    assert poison == [False] * (losses - 1) + [True] * (9 - losses)


async def test_a_worker_whose_supervisor_is_lost_with_it_counts_little(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await begin(queue, db, "w0")
    for n in range(1, MAX_ATTEMPTS + 1):
        await end_lease(db, queue.model, f"w{n - 1}")
        attempts(await queue.begin(f"w{n}", await queue.take_over(f"w{n}", 9), alone=True))


async def test_a_job_is_in_doubt_after_a_loss_that_may_have_been_a_kill(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await begin(queue, db, "w0")
    for n, (ended_by, in_doubt) in enumerate([(EndedBy.OUTSIDE, True), (EndedBy.ITSELF, False)]):
        await WorkerEnds(db, queue.model).end_lease(f"w{n}", ended_by)
        claims = await queue.take_over(f"w{n + 1}", 9)
        assert [each.in_doubt for each in (await queue.trials.records(claims)).values()] == [
            in_doubt
        ]
        await queue.begin(f"w{n + 1}", claims, alone=True)


async def test_losses_before_a_job_got_on_are_no_evidence_after(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w0")
    for n in range(1, 20):
        (attempt,) = attempts(await lose(queue, f"w{n - 1}", f"w{n}", ended_by=EndedBy.UNCLEAR))
        await queue.trials.end(f"w{n}", attempt, got_on=True)
        (attempt,) = attempts(await lose(queue, f"w{n}", f"w{n}-", ended_by=EndedBy.ITSELF))
        (attempt,) = attempts(await lose(queue, f"w{n}-", f"w{n}", ended_by=EndedBy.OUTSIDE))
        await queue.trials.end(f"w{n}", attempt, got_on=True)


async def test_a_worker_that_begins_again_what_it_has_begun_has_not_been_lost(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await begin_one(queue, db, "w0")
    for _ in range(3 * MAX_ATTEMPTS):
        # The answers to its calls were lost on the way.
        claims = await queue.claimed_before(db, "w0", 9)
        attempts(await queue.begin("w0", claims, alone=True))


async def test_company_that_comes_later_ends_the_suspicion_against_a_job_alone(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await begin(queue, db, "w0")
    for n in range(1, 3 * MAX_ATTEMPTS):
        (attempt,) = attempts(await lose(queue, f"w{n - 1}", f"w{n}"))
        await queue.trials.end(f"w{n}", attempt, got_on=False)


async def test_released_attempts_use_up_their_number_but_do_not_count(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w0")
    for n in range(1, 3 * MAX_ATTEMPTS):
        await queue.release("w0", [attempt])
        (attempt,) = attempts(await queue.begin("w0", await queue.take_over("w0", 1)))
        assert attempt.ordinal == n + 1
    for n in range(MAX_ATTEMPTS - 1):
        attempts(await lose(queue, f"w{n}", f"w{n + 1}"))
    (refused,) = await lose(queue, f"w{MAX_ATTEMPTS - 1}", "x")
    assert isinstance(refused, BeginRefused)


async def test_a_released_job_is_there_for_others_at_once_and_fences_who_gave_it_back(
    queue: JobQueue, db: Redis
) -> None:
    await beat(db, queue.model, "w0")
    await put(queue, "a")
    given = await begin_one(queue, db, "w0")
    await queue.release("w0", [given])
    assert await queue.complete("w0", [Ended(given, "done")]) == 1
    (claimed,) = await queue.take_over("w1", 1)
    assert claimed.job_id == "a"


async def test_who_got_on_alone_begins_anew(queue: JobQueue, db: Redis) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w0")
    for n in range(1, 3 * MAX_ATTEMPTS):
        await queue.trials.end(f"w{n - 1}", attempt, got_on=True)
        await end_lease(db, queue.model, f"w{n - 1}")
        claims = await queue.take_over(f"w{n}", 9)
        assert await queue.trials.records(claims) == {attempt.entry: Record(lost=1, acquitted=n)}
        (attempt,) = attempts(await queue.begin(f"w{n}", claims, alone=True))


async def test_only_the_attempt_that_owns_a_job_can_be_acquitted(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    old = await begin_one(queue, db, "w0")
    await end_lease(db, queue.model, "w0")
    claims = await queue.take_over("w1", 9)
    assert await queue.trials.records(claims) == {
        old.entry: Record(lost=1, acquitted=0, in_doubt=True)
    }
    await queue.begin("w1", claims)
    await queue.trials.end("w0", old, got_on=True)
    assert await queue.trials.records(claims) == {old.entry: Record(lost=2, acquitted=0)}


async def test_what_another_worker_took_over_before_it_was_begun_is_left_to_it(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    late = await claim(queue, db, "w0")
    await end_lease(db, queue.model, "w0")
    taken = await queue.take_over("w1", 9)
    assert await queue.begin("w0", late) == []
    (begun,) = attempts(await queue.begin("w1", taken))
    assert begun.ordinal == 1
    assert await queue.begin("w0", late) == []
    assert await queue.complete("w1", [Ended(begun, "done")]) == 0


async def test_a_job_ended_by_its_late_worker_is_not_begun_by_its_heir(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    late = await begin_one(queue, db, "w0")
    await end_lease(db, queue.model, "w0")
    taken = await queue.take_over("w1", 9)
    assert await queue.complete("w0", [Ended(late, "done")]) == 0
    assert await queue.begin("w1", taken) == []
    assert await db.xpending_range(queue.key, "workers", "-", "+", 9) == []


async def test_a_claimed_entry_whose_job_is_forgotten_is_cleared_away(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    await db.delete(queue.job_key("a"))
    assert await begin(queue, db, "w") == []
    assert await db.xlen(queue.key) == 0


def _wire(**fields: object) -> bytes:
    return msgspec.msgpack.encode({"id": "x", "model": "m", "sampling": {}, **fields})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x81\xa2id\xa1\xff",
        _wire()[:-1],
        _wire(sampling={"n": "many"}),
        _wire(v=2),
        _wire(v=0),
        msgspec.msgpack.encode(["not", "a", "job"]),
    ],
    ids=["empty", "no msgpack", "no UTF-8", "cut off", "wrong type", "v2", "v0", "array"],
)
async def test_an_entry_that_cannot_be_read_is_buried_and_holds_nobody_up(
    queue: JobQueue, db: Redis, payload: bytes
) -> None:
    await db.xadd(queue.key, {"job": payload})
    await db.xadd(queue.key, {"something": "else"})
    await put(queue, "a")
    assert [attempt.job.id for attempt in attempts(await begin(queue, db, "w"))] == ["a"]
    dead = [fields for _, fields in await db.xrange(queue.dead_letters.key)]
    assert dead == [
        {b"reason": b"unreadable", b"job": payload},
        {b"reason": b"unreadable", b"something": b"else"},
    ]
    assert await db.xlen(queue.key) == 1


async def test_unknown_fields_of_a_newer_gateway_do_no_harm(queue: JobQueue, db: Redis) -> None:
    (entry,) = await _claims_of(
        queue, db, _wire(v=1, model=queue.model, colour="red", sampling={"fun": 1})
    )
    assert entry.job is not None
    assert entry.job_id == "x"


async def test_a_job_of_another_model_is_not_run(queue: JobQueue, db: Redis) -> None:
    (entry,) = await _claims_of(queue, db, _wire(v=1, model=f"not-{queue.model}"))
    assert entry.job is None


async def _claims_of(queue: JobQueue, db: Redis, payload: bytes) -> list[Claim]:
    await db.xadd(queue.key, {"job": payload})
    return await claim(queue, db, "w")


async def test_workers_that_claim_at_once_never_get_the_same_job(
    queue: JobQueue, db: Redis
) -> None:
    for n in range(60):
        await put(queue, f"j{n}")
    rounds = await asyncio.gather(*(begin(queue, db, f"w{n}") for n in range(8)))
    ids = [attempt.job.id for begun in rounds for attempt in attempts(begun)]
    assert sorted(ids) == sorted(f"j{n}" for n in range(60))


async def test_many_jobs_are_looked_up_in_parts_so_that_others_have_their_turn(
    queue: JobQueue, db: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(queue, "runs")
    attempt = await begin_one(queue, db, "w0")
    await put(queue, "waits")
    asked, run = [], queue.db.direct.run

    async def counting(commands: Sequence[Command]) -> list[Any]:
        asked.append(len(commands))
        return await run(commands)

    monkeypatch.setattr(queue.db.direct, "run", counting)
    unknown = [f"unknown-{number}" for number in range(1000)]
    found = await queue.current_attempts(["runs", *unknown, "waits"])
    assert found == {"runs": attempt.number, "waits": 0}
    assert sum(asked) == 1002
    assert max(asked) <= MOST_AT_ONCE
