"""A look at models takes one round trip, however many there are."""

from __future__ import annotations

from redis.asyncio import Redis

from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.registration import Registration, renew_registrations
from contract.bus.views.model_look import look_at_models
from contract.messages import Heartbeat, State
from tests.contract.queue_workers import REPLY, a_job, claim, put_one


async def test_it_sees_workers_registrations_and_queues(db: Redis, queue: JobQueue) -> None:
    model = queue.model
    empty = (await look_at_models(db, [model]))[model]
    assert empty == ([], [], 0, 0, "0")
    await renew_registrations(db, "here", {model: Registration("loading")})
    beat = Heartbeat("w", model, "mock", "here", 1, State.READY)
    await Heartbeats(db, model).beat("w", beat, ready=True)
    for job_id in ("a", "b"):
        await put_one(queue, a_job(queue, job_id), REPLY, "0", max_waiting=9, deadline_ms=60_000)
    await db.xadd(queue.dead_letters.key, {"reason": "poison"}, id="7-1")
    await claim(queue, db, "w", count=1)
    look = (await look_at_models(db, [model]))[model]
    assert (len(look.beats), len(look.registrations)) == (1, 1)
    assert (look.unfinished, look.waiting, look.dead_letter) == (2, 1, "7-1")


#: Of 50 models at once. redis-py sends a pipeline in pieces of 6 kB, which a busy server reads one
#: by one; a round trip for each model would be 50.
_READS = 25


async def test_fifty_models_are_one_round_trip(db: Redis, queue: JobQueue) -> None:
    models = [f"{queue.model}-{number}" for number in range(50)]
    await look_at_models(db, models)
    before = (await db.info("stats"))["total_reads_processed"]
    looks = await look_at_models(db, models)
    reads = (await db.info("stats"))["total_reads_processed"] - before
    assert list(looks) == models
    assert reads < _READS


async def test_many_registrations_are_renewed_in_one_round_trip(db: Redis, queue: JobQueue) -> None:
    words = {f"{queue.model}-{number}": Registration() for number in range(50)}
    await renew_registrations(db, "here", words)
    before = (await db.info("stats"))["total_reads_processed"]
    await renew_registrations(db, "here", words)
    assert (await db.info("stats"))["total_reads_processed"] - before < _READS
    looks = await look_at_models(db, words)
    assert all(look.registrations for look in looks.values())
