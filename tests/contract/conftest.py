"""A queue of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import settings
from redis.asyncio import Redis

from contract.bus.queue import JobQueue
from tests.contract.queue_workers import serve

# A slow machine is no failure, and a test run leaves nothing behind.
settings.register_profile("ew", deadline=None, database=None)
settings.load_profile("ew")


@pytest.fixture
async def unserved(db: Redis, unique_model: str) -> JobQueue:
    """A queue that takes no job yet."""
    made = JobQueue(db, unique_model)
    await made.open()
    return made


@pytest.fixture
async def queue(unserved: JobQueue) -> JobQueue:
    await serve(unserved)
    return unserved
