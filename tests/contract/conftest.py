"""A queue of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import settings
from redis.asyncio import Redis

from contract.bus.queue import JobQueue

# A slow machine is no failure, and a test run leaves nothing behind.
settings.register_profile("ew", deadline=None, database=None)
settings.load_profile("ew")


@pytest.fixture
async def queue(db: Redis, unique_model: str) -> JobQueue:
    made = JobQueue(db, unique_model)
    await made.open()
    return made
