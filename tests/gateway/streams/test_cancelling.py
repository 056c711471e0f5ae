"""A cancellation is kept until Redis has heard of it, however long that is away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.bus.client import connect
from contract.bus.queue import JobQueue
from gateway.streams import cancelling
from gateway.streams.cancelling import Canceller
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import begin, put, serve, state_of
from tests.waiting import until


@pytest.fixture
async def own_db(own_valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(own_valkey.url)
    yield client
    await client.aclose()


async def is_away(db: Redis) -> bool:
    try:
        await db.ping()
    except RedisError:
        return True
    return False


async def test_a_cancellation_that_falls_into_a_long_outage_is_told_after_it(
    own_valkey: ValkeyServer,
    own_db: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    queue = JobQueue(own_db, "m")
    await serve(queue)
    for n in range(300):
        await put(queue, f"j{n}")
    await begin(queue, own_db, "w")
    monkeypatch.setattr(cancelling, "_SLOWEST_RETRY_S", 0.1)
    canceller = Canceller(own_db, keep_s=900)
    own_valkey.kill()
    assert await is_away(own_db)
    for n in range(300):
        canceller.cancel("m", f"j{n}")
    later = time.monotonic() + 600
    monkeypatch.setattr(cancelling, "time", SimpleNamespace(monotonic=lambda: later))

    async def was_tried_again() -> bool:
        return caplog.text.count("300 jobs are not cancelled yet") >= 3

    await until(was_tried_again)
    assert len(canceller) == 300
    monkeypatch.undo()
    own_valkey.start()
    await canceller.finish(10)
    assert len(canceller) == 0
    assert await state_of(queue, "j299") == "cancelled"
    assert await own_db.hget(queue.job_key("j0"), "cancelled") == b"1"
    assert 0 < await own_db.pttl("ew:{m}:cancel") <= 300_000


async def test_no_cancellation_is_kept_for_longer_than_its_job(
    own_valkey: ValkeyServer, own_db: Redis
) -> None:
    canceller = Canceller(own_db, keep_s=0.5)
    own_valkey.kill()
    canceller.cancel("m", "j")
    assert len(canceller) == 1
    await until(lambda: _is_empty(canceller))


async def _is_empty(canceller: Canceller) -> bool:
    return len(canceller) == 0
