"""A client's side, and workers: as processes, or in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conftest import ValkeyServer
from tests.workers.crew import Crew
from tests.workers.desk import Desk

settings.register_profile("ew", deadline=None, database=None)
settings.load_profile("ew")


@pytest.fixture
async def desk(redis_url: str, unique_model: str) -> AsyncIterator[Desk]:
    made = Desk(redis_url, unique_model)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def own_desk(own_valkey: ValkeyServer) -> AsyncIterator[Desk]:
    """A desk at a server that the test may kill and start again."""
    made = Desk(own_valkey.url, "m")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def crew(desk: Desk, tmp_path: Path) -> AsyncIterator[Crew]:
    made = Crew(desk, tmp_path)
    yield made
    made.close()


@pytest.fixture
async def own_crew(own_desk: Desk, tmp_path: Path) -> AsyncIterator[Crew]:
    made = Crew(own_desk, tmp_path)
    yield made
    made.close()
