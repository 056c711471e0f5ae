"""A server whose memory is full: nothing new comes in, and what was let in goes on and ends."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from contract.bus.background import BackgroundJobs
from contract.bus.background_job import AboutJob, JobOutcome, JobState
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended
from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.replies import ReplyStream, publish
from contract.bus.tickets import NotServed
from contract.messages import Job, Sampling
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import (
    a_job,
    attempts,
    beat,
    begin,
    begin_one,
    put,
    put_one,
    state_of,
)


async def test_a_server_that_takes_no_writes_is_not_said_to_lack_a_worker(
    own_valkey: ValkeyServer,
) -> None:
    """As when its disk is full: the leases of all workers end, as nobody can renew them."""
    db = connect(own_valkey.url)
    queue = JobQueue(db, "m")
    with pytest.raises(NotServed):
        await put_served(queue)
    await db.config_set("min-replicas-to-write", 1)
    with pytest.raises(ResponseError, match="NOREPLICAS"):
        await put_served(queue)
    await db.aclose()


async def put_served(queue: JobQueue) -> None:
    await put_one(queue, a_job(queue, "a"), "ew:out:g", "0", max_waiting=9, deadline_ms=9_000)


async def test_what_was_let_in_goes_on_and_ends(own_valkey: ValkeyServer) -> None:
    db = connect(own_valkey.url)
    queue, kept = JobQueue(db, "m"), BackgroundJobs(db, 1 << 20)
    await queue.open()
    await beat(db, "m", "w")
    await put(queue, "running")
    running = await begin_one(queue, db, "w")
    for job_id in ("waiting", "cancelled", "yielding"):
        await put(queue, job_id)
    about = AboutJob("m", timeout_s=60, request_id="r")
    job = Job("background", "m", Sampling(max_tokens=1), prompt="x")
    await kept.create(job, about, job_id="background", keeper="g", digest="")
    stream = ReplyStream(db, "g")
    last = await stream.open()

    await db.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await put(queue, "new")
    with pytest.raises(OutOfMemoryError):
        await db.set("anything", 1)
    assert await beat(db, "m", "w") is False
    await publish(db, [(stream.key, b"one"), (stream.key, b"two"), ("ew:out:gone", b"three")])
    told = [fields[b"f"] for _, fields in await db.xrange(stream.key, f"({last}")]
    assert told == [b"one", b"two"]
    assert await queue.complete("w", [Ended(running, "done")]) == 0
    await Cancellations(db, "m").announce("cancelled")
    begun = {each.job.id: each for each in attempts(await begin(queue, db, "w"))}
    assert begun.keys() == {"waiting", "yielding"}
    assert await queue.yield_place("w", begun["yielding"])
    await queue.release("w", [begun["waiting"]])
    again = attempts(await queue.begin("w2", await queue.take_over("w2", 10)))
    assert await queue.complete("w2", [Ended(each, "done") for each in again]) == 0
    assert await state_of(queue, "waiting") == "done"
    ended = await kept.end("background", JobState.DONE, JobOutcome(), keep_s=60, answer=b"x")
    assert ended
    await db.aclose()
