"""Hosts say that they would load a model, each for as long as its lease lasts."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from contract.bus.queue import JobQueue, NotServed
from contract.bus.registration import Standby, end_standby, read_standby, renew_standby
from tests.contract.parts import REPLY, a_job


async def put_if_served(queue: JobQueue, job_id: str) -> None:
    await queue.put(a_job(queue, job_id), REPLY, "0", max_waiting=9, deadline_ms=60_000)


async def end_lease(db: Redis, model: str, host: str) -> None:
    """What the passing of time does to a host that says no more."""
    for part in ("leases", "ready"):
        await db.zadd(f"ew:{{{model}}}:standby:{part}", {host: 1})


async def test_jobs_are_welcome_while_any_host_would_load_the_model(
    db: Redis, queue: JobQueue
) -> None:
    with pytest.raises(NotServed):
        await put_if_served(queue, "a")
    await renew_standby(db, queue.model, "one", Standby())
    await renew_standby(db, queue.model, "two", Standby())
    await put_if_served(queue, "a")
    await end_standby(db, queue.model, "one")
    await put_if_served(queue, "b")
    await end_lease(db, queue.model, "two")
    assert await read_standby(db, queue.model) is None
    with pytest.raises(NotServed):
        await put_if_served(queue, "c")


async def test_the_host_that_will_be_first_has_the_word(db: Redis, queue: JobQueue) -> None:
    model = queue.model
    assert await read_standby(db, model) is None
    await renew_standby(db, model, "broken", Standby(problem="needs 99 GiB"))
    assert await read_standby(db, model) == Standby(problem="needs 99 GiB")
    await renew_standby(db, model, "unsure", Standby("waiting"))
    assert await read_standby(db, model) == Standby("waiting")
    await renew_standby(db, model, "slow", Standby("loading", eta_s=60.0))
    await renew_standby(db, model, "fast", Standby("loading", eta_s=5.0))
    assert await read_standby(db, model) == Standby("loading", eta_s=5.0)


async def test_a_word_that_cannot_be_read_counts_for_nothing(
    db: Redis, queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    await renew_standby(db, queue.model, "one", Standby("loading"))
    await renew_standby(db, queue.model, "two", Standby())
    await db.hset(f"ew:{{{queue.model}}}:standby:beats", "two", b"\xff what")
    assert await read_standby(db, queue.model) == Standby("loading")
    assert "a standby cannot be read" in caplog.text
