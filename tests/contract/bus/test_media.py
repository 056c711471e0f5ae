"""Images and the like of a job: beside the queue, counted, and gone with it."""

from __future__ import annotations

import hashlib

import pytest
from redis.asyncio import Redis

from contract.asked import Media
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Ended, MediaGone, read_media
from contract.bus.queue import JobQueue
from contract.bus.tickets import QueueTooLarge, Ticket
from contract.limits import Consumption, KeyLimits, LimitReached
from contract.media import media_of, parts_of
from contract.messages import ChatMessage, Job, Sampling
from tests.contract.queue_workers import begin_one, claim, lose, put_one

DATA = b"\x89PNG" + bytes(50_000)


def medium(data: bytes = DATA, at: int = 0) -> Media:
    return Media("image", at, "image/png", hashlib.sha256(data).hexdigest(), len(data), data)


def a_job(queue: JobQueue, job_id: str, *media: Media) -> Job:
    said = ChatMessage("user", "what is this?", media=media)
    return Job(job_id, queue.model, Sampling(max_tokens=4), messages=(said,))


async def put(
    queue: JobQueue,
    job: Job,
    max_bytes: int = 0,
    consumption: Consumption = Consumption(),  # noqa: B008 - it is frozen
) -> Ticket:
    return await put_one(
        queue,
        job,
        "ew:out:nobody",
        "0",
        max_waiting=1000,
        deadline_ms=60_000,
        max_bytes=max_bytes,
        consumption=consumption,
    )


def media_key(queue: JobQueue, job_id: str) -> str:
    return f"{queue.job_key(job_id)}:media"


async def total(queue: JobQueue) -> int:
    return int(await queue.db.hget(f"ew:{{{queue.model}}}:media", "total") or 0)


def test_parts_are_as_they_were_said() -> None:
    first, second, last = medium(at=0), medium(b"b", at=2), medium(b"c", at=2)
    assert [*parts_of(ChatMessage("user", "abc", media=(first, second, last)))] == [
        *(first, "ab", second, last, "c")
    ]
    assert [*parts_of(ChatMessage("user", "abc"))] == ["abc"]
    assert [*parts_of(ChatMessage("user", "", media=(first,)))] == [first]


async def test_media_travel_beside_the_message_and_each_only_once(
    queue: JobQueue, db: Redis
) -> None:
    job = a_job(queue, "a", medium(), medium(at=4), medium(b"other", at=4))
    await put(queue, job)
    ((_, fields),) = await db.xrange(queue.key)
    assert len(fields[b"job"]) < 1000
    assert await db.hlen(media_key(queue, "a")) == 2
    assert await db.pttl(media_key(queue, "a")) == pytest.approx(
        await db.pttl(queue.job_key("a")), abs=1000
    )
    (claimed,) = await claim(queue, db, "w")
    assert claimed.job is not None
    assert [each.data for each in media_of(claimed.job)] == [b""] * 3
    assert await read_media(db, queue.job_key("a"), claimed.job) == job
    assert await total(queue) == len(DATA) + len(b"other")


@pytest.mark.parametrize("end", ["done", "given back", "cancelled", "cancelled while it runs"])
async def test_media_are_gone_with_their_job(queue: JobQueue, db: Redis, end: str) -> None:
    cancellations = Cancellations(db, queue.model)
    await put(queue, a_job(queue, "a", medium()))
    if end == "cancelled":
        await cancellations.announce("a")
    else:
        attempt = await begin_one(queue, db, "w")
        if end == "done":
            await queue.complete("w", [Ended(attempt, "done")])
        if end.startswith("cancelled"):
            await cancellations.announce("a")
        await queue.release("w", [attempt])
    is_over = end != "given back"
    assert await db.exists(media_key(queue, "a")) == (not is_over)
    assert await total(queue) == (0 if is_over else len(DATA))


async def test_a_successor_finds_the_media_of_a_lost_worker(queue: JobQueue, db: Redis) -> None:
    job = a_job(queue, "a", medium())
    await put(queue, job)
    await begin_one(queue, db, "w")
    (again,) = await lose(queue, "w", "heir")
    assert await read_media(db, queue.job_key("a"), getattr(again, "job")) == job  # noqa: B009
    await db.delete(media_key(queue, "a"))
    with pytest.raises(MediaGone, match="send it again"):
        await read_media(db, queue.job_key("a"), job)


async def test_media_count_against_the_bytes_of_a_queue(queue: JobQueue, db: Redis) -> None:
    most = 3 * len(DATA) - 1000
    await put(queue, a_job(queue, "a", medium()), most)
    await put(queue, a_job(queue, "b", medium()), most)
    with pytest.raises(QueueTooLarge):
        await put(queue, a_job(queue, "c", medium()), most)
    assert not await db.exists(media_key(queue, "c"))
    # One that ended by its expiry alone does not count for ever.
    await db.delete(media_key(queue, "a"))
    await put(queue, a_job(queue, "c", medium()), most)
    assert await total(queue) == 2 * len(DATA)


async def test_media_count_against_the_bytes_of_a_key(queue: JobQueue, unique_model: str) -> None:
    limits = KeyLimits(waiting_bytes=len(DATA) + 1000)
    consumption = Consumption(10, ((f"key:{unique_model}", limits),))
    await put(queue, a_job(queue, "a", medium()), consumption=consumption)
    with pytest.raises(LimitReached) as reached:
        await put(queue, a_job(queue, "b", medium()), consumption=consumption)
    assert reached.value.name == "waiting_bytes"


async def test_a_job_put_twice_has_its_media_once(queue: JobQueue) -> None:
    for _ in range(2):
        await put(queue, a_job(queue, "a", medium()))
    assert await total(queue) == len(DATA)
