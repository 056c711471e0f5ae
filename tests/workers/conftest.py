"""A client's side, and workers: as processes, or in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conftest import ValkeyServer
from tests.workers.client import Client
from tests.workers.worker_processes import WorkerProcesses

settings.register_profile("ew", deadline=None, database=None)
settings.load_profile("ew")


@pytest.fixture
async def client(redis_url: str, unique_model: str) -> AsyncIterator[Client]:
    made = Client(redis_url, unique_model)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def own_client(own_valkey: ValkeyServer) -> AsyncIterator[Client]:
    """A client at a server that the test may kill and start again."""
    made = Client(own_valkey.url, "m")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def workers(client: Client, tmp_path: Path) -> AsyncIterator[WorkerProcesses]:
    made = WorkerProcesses(client, tmp_path)
    yield made
    made.close()


@pytest.fixture
async def own_workers(own_client: Client, tmp_path: Path) -> AsyncIterator[WorkerProcesses]:
    made = WorkerProcesses(own_client, tmp_path)
    yield made
    made.close()
