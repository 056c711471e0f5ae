"""A host whose operator asks over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.orchestrator.gpu_host import CARD, GpuHost, running

ADMIN = "/api/v1/admin"


class AdminHost(GpuHost):
    """A host with one model that is always loaded, and one on demand; and an operator's key."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.show(CARD, CARD | {"uuid": "GPU-b"})
        self.configure(
            always={"mib": 1000}, later={"mib": 1000, "load": "on-demand", "aliases": ["soon"]}
        )
        assert self.start().code == 0
        self.key = self.run("keys", "add", "ops", "--admin").out.split()[-1]
        self.url = json.loads(self.run("status", "--json").out)["gateway"]["url"]

    def client_of(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": key}, timeout=60)


@pytest.fixture(scope="module")
def admin_host() -> Iterator[AdminHost]:
    with running(AdminHost) as host:
        yield host


@pytest.fixture
def admin(admin_host: AdminHost) -> Iterator[httpx.Client]:
    with admin_host.client_of(admin_host.key) as client:
        yield client
