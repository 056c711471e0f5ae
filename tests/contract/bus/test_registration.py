"""Hosts say that they would load a model, each for as long as its lease lasts."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from contract.bus.queue import JobQueue
from contract.bus.registration import (
    Registration,
    ask_for_grants,
    end_registration,
    first_registration,
    grants_key,
    renew_registrations,
    return_grants,
)
from contract.bus.tickets import NotServed
from contract.bus.views.model_look import look_at_models
from tests.contract.queue_workers import REPLY, a_job, put_one


async def put_if_served(queue: JobQueue, job_id: str) -> None:
    await put_one(queue, a_job(queue, job_id), REPLY, "0", max_waiting=9, deadline_ms=60_000)


async def registration_of(db: Redis, model: str) -> Registration | None:
    return first_registration((await look_at_models(db, [model]))[model].registrations)


async def end_lease(db: Redis, model: str, host: str) -> None:
    """End the registration of a silent host, as the passing of time would."""
    for part in ("leases", "ready"):
        await db.zadd(f"ew:{{{model}}}:registration:{part}", {host: 1})


async def test_jobs_are_welcome_while_any_host_would_load_the_model(
    db: Redis, unserved: JobQueue
) -> None:
    with pytest.raises(NotServed):
        await put_if_served(unserved, "a")
    await renew_registrations(db, "one", {unserved.model: Registration()})
    await renew_registrations(db, "two", {unserved.model: Registration()})
    await put_if_served(unserved, "a")
    await end_registration(db, unserved.model, "one")
    await put_if_served(unserved, "b")
    await end_lease(db, unserved.model, "two")
    assert await registration_of(db, unserved.model) is None
    with pytest.raises(NotServed):
        await put_if_served(unserved, "c")


async def test_the_host_that_will_be_first_has_the_word(db: Redis, queue: JobQueue) -> None:
    model = queue.model
    assert await registration_of(db, model) is None
    await renew_registrations(db, "broken", {model: Registration(problem="needs 99 GiB")})
    assert await registration_of(db, model) == Registration(problem="needs 99 GiB")
    await renew_registrations(db, "unsure", {model: Registration("waiting")})
    assert await registration_of(db, model) == Registration("waiting")
    await renew_registrations(db, "slow", {model: Registration("loading", eta_s=60.0)})
    await renew_registrations(db, "fast", {model: Registration("loading", eta_s=5.0)})
    assert await registration_of(db, model) == Registration("loading", eta_s=5.0)


async def test_a_word_that_cannot_be_read_counts_for_nothing(
    db: Redis, queue: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    await renew_registrations(db, "one", {queue.model: Registration("loading")})
    await renew_registrations(db, "two", {queue.model: Registration()})
    await db.hset(f"ew:{{{queue.model}}}:registration:beats", "two", b"\xff what")
    assert await registration_of(db, queue.model) == Registration("loading")
    assert "a registration cannot be read" in caplog.text


async def test_a_host_that_leaves_the_model_to_another_has_no_word(
    db: Redis, queue: JobQueue
) -> None:
    model = queue.model
    leaves = Registration("waiting", eta_s=1.0, is_elsewhere=True)
    await renew_registrations(db, "leaves", {model: leaves})
    await renew_registrations(db, "loads", {model: Registration("loading")})
    assert await registration_of(db, model) == Registration("loading")


async def test_one_host_has_the_grant_until_it_returns_it_or_is_silent(
    db: Redis, queue: JobQueue
) -> None:
    model, asked = queue.model, {queue.model: False}
    assert await ask_for_grants(db, "one", asked) == {model}
    assert await ask_for_grants(db, "two", asked) == frozenset()
    assert await ask_for_grants(db, "one", asked) == {model}
    await return_grants(db, "one", [model])
    assert await ask_for_grants(db, "two", asked) == {model}
    # As after ten seconds without a word of it.
    await db.zadd(grants_key(model), {"two": 1})
    assert await ask_for_grants(db, "one", asked) == {model}
    assert await ask_for_grants(db, "two", asked) == frozenset()


async def test_a_further_host_joins_and_keeps_its_grant(db: Redis, queue: JobQueue) -> None:
    model = queue.model
    assert await ask_for_grants(db, "one", {model: False}) == {model}
    assert await ask_for_grants(db, "two", {model: True}) == {model}
    assert await ask_for_grants(db, "two", {model: False}) == {model}
    assert await ask_for_grants(db, "one", {model: False}) == {model}


async def test_nothing_is_asked_of_redis_for_no_models(db: Redis) -> None:
    assert await ask_for_grants(db, "one", {}) == frozenset()
