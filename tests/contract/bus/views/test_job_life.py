"""The life of a job, put together from its record and its reply stream."""

from __future__ import annotations

from redis.asyncio import Redis

from contract.bus.claims import Ended
from contract.bus.queue import JobQueue
from contract.bus.replies import ReplyStream, publish
from contract.bus.views.job_life import job_life
from contract.messages import Delta, Done, Envelope, Event, Started
from contract.wire import encode_frame
from tests.contract.queue_workers import REPLY, attempts, begin_one, lose, put


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
