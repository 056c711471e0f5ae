"""The life of a job, put together from its record and its reply stream."""

from __future__ import annotations

from redis.asyncio import Redis

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended
from contract.bus.queue import JobQueue
from contract.bus.replies import ReplyStream, publish
from contract.bus.views.job_life import JobLife, job_life
from contract.messages import Delta, Done, Envelope, Event, Started
from contract.usage import JobUse
from contract.wire import encode_frame
from tests.contract.queue_workers import REPLY, attempts, begin, begin_one, lose, put, serve


async def publish_event(db: Redis, number: int, seq: int, event: Event) -> None:
    await publish(db, [(REPLY, encode_frame([Envelope("a", number, seq, event)]))])


async def test_each_attempt_has_its_worker_its_times_and_what_it_gave(
    queue: JobQueue, db: Redis
) -> None:
    assert await job_life(db, queue.model, "a") is None
    await db.delete(REPLY)
    await ReplyStream(db, REPLY.rpartition(":")[2]).open()
    await put(queue, "a")
    waiting = await job_life(db, queue.model, "a")
    assert waiting is not None
    assert (waiting.state, waiting.attempts, waiting.gateway) == ("queued", (), "nobody")
    first = await begin_one(queue, db, "w0")
    await publish_event(db, first.number, 0, Started())
    for seq in range(2):
        await publish_event(db, first.number, seq, Delta("x", b""))
    (second,) = attempts(await lose(queue, "w0", "w1"))
    await publish_event(db, second.number, 0, Started())
    await publish_event(db, second.number, 2, Done(("stop",), 1, 2))
    await queue.complete("w1", [Ended(second, "done")])
    life = await job_life(db, queue.model, "a")
    assert life is not None
    assert [(each.worker, each.number, each.events, each.end) for each in life.attempts] == [
        ("w0", first.number, 2, ""),
        ("w1", second.number, 0, "done"),
    ]
    began = life.attempts[0]
    assert began.first_ms is not None
    assert life.queued_ms <= began.began_ms <= began.first_ms <= (life.ended_ms or 0)
    # Of a stream that was cut nothing is said that may be wrong.
    await db.xtrim(REPLY, maxlen=2, approximate=False)
    cut = await job_life(db, queue.model, "a")
    assert cut is not None
    assert (cut.attempts[0].is_whole, cut.attempts[0].first_ms) == (False, None)
    assert cut.attempts[1].end == "done"
    await db.delete(REPLY)


async def forgotten(queue: JobQueue, job_id: str) -> JobLife | None:
    """Return what is known of a job, once its record has expired."""
    await queue.db.delete(queue.job_key(job_id))
    return await job_life(queue.db, queue.model, job_id)


async def test_the_life_of_a_job_is_told_when_its_record_is_gone(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    first = await begin_one(queue, db, "w0")
    (second,) = attempts(await lose(queue, "w0", "w1"))
    await queue.complete("w1", [Ended(second, "done", JobUse(3, 0, 20, 0, 1500))])
    before = await job_life(db, queue.model, "a")
    # Others come later.
    for number in range(1100):
        await db.xadd(f"ew:{{{queue.model}}}:lives", {"job": f"b{number} done k 1-0 ew:out:g 0 0"})
    after = await forgotten(queue, "a")
    assert after is not None
    assert before is not None
    assert after._replace(use=None, ended_ms=None) == before._replace(ended_ms=None)
    assert abs((after.ended_ms or 0) - (before.ended_ms or 0)) <= 5
    assert after.use == JobUse(3, 0, 20, 0, 1500)
    assert [each.number for each in after.attempts] == [first.number, second.number]


async def test_however_a_job_ends_its_life_is_kept_once(queue: JobQueue, db: Redis) -> None:
    for job_id in ("waiting", "running", "failing"):
        await put(queue, job_id)
    cancellations = Cancellations(db, queue.model)
    await cancellations.announce("waiting")
    running, failing = attempts(await begin(queue, db, "w"))
    await cancellations.announce("running")
    await queue.release("w", [running])
    for _ in range(2):
        await queue.complete("w", [Ended(failing, "failed")])
    lives = [await forgotten(queue, each) for each in ("waiting", "running", "failing")]
    assert [(each.state, len(each.attempts)) for each in lives if each] == [
        ("cancelled", 0),
        ("cancelled", 1),
        ("failed", 1),
    ]
    assert await db.xlen(f"ew:{{{queue.model}}}:lives") == 3


async def test_lives_are_forgotten_after_the_configured_days(db: Redis, unique_model: str) -> None:
    queue = JobQueue(db, unique_model, trace_days=2)
    await serve(queue)
    lives, now_ms = f"ew:{{{unique_model}}}:lives", (await db.time())[0] * 1000
    day_ms = 86_400_000
    for number in range(300):
        await db.xadd(lives, {"job": "old"}, id=f"{now_ms - 3 * day_ms}-{number + 1}")
    await put(queue, "a")
    await queue.complete("w", [Ended(await begin_one(queue, db, "w"), "done")])
    # As far as whole nodes of the stream go.
    assert await db.xlen(lives) <= 101
    assert day_ms < await db.pttl(lives) <= 2 * day_ms


async def test_a_life_of_very_many_attempts_is_cut_at_its_beginning(
    queue: JobQueue, db: Redis
) -> None:
    await put(queue, "a")
    attempt = await begin_one(queue, db, "w")
    began = " ".join(str(attempt.number + n) for n in range(1000))
    workers = " ".join(f"w-{n}-{'x' * 12}" for n in range(1000))
    await db.hset(queue.job_key("a"), mapping={"began": began, "workers": workers})
    await queue.complete("w", [Ended(attempt, "done")])
    life = await forgotten(queue, "a")
    assert life is not None
    assert 90 < len(life.attempts) < 200
    assert life.attempts[-1].number == attempt.number + 999
    assert life.attempts[-1].worker.startswith("w-999-")
