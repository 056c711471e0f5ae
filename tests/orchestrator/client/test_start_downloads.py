"""A start whose engine has to download its model first: how much is there is seen."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.units.liveness import heard
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Identity, Process
from orchestrator.terminal.sizes import GIB
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal
from tests.standins.hub import Hub, Repository, running_hub
from tests.waiting import eventually
from workers.fetching import Fetching

REPO = "Team/Large"
MIB = 2**20
#: As an engine calls it. It writes ten MiB at a time.
DOWNLOAD = "from huggingface_hub import snapshot_download as s; s('Team/Large')"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        weights = random.Random(1).randbytes(24 * MIB)
        older = {"pytorch_model.bin": b"x" * 5000}
        hub.repositories[REPO] = Repository(
            {"config.json": b"{}", "model.safetensors": weights, **older}
        )
        yield hub


@pytest.fixture
def cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    return tmp_path / "hf/hub/models--Team--Large"


def _half_made(cache: Path) -> int:
    """Return the bytes of files that are being downloaded."""
    return sum(path.stat().st_size for path in cache.glob("blobs/*.incomplete"))


@pytest.fixture
def download(hub: Hub, cache: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that stands still with ten of 24 MiB."""
    hub.stops_after = 11 * MIB
    hub.flows.clear()
    running = subprocess.Popen([sys.executable, "-c", DOWNLOAD])
    eventually(lambda: _half_made(cache) >= 10 * MIB, 30)
    yield running
    hub.flows.set()
    assert running.wait(30) == 0


def test_a_start_shows_how_much_of_the_download_is_there(
    host: Host, terminal: Terminal, cache: Path, hub: Hub, download: subprocess.Popen[bytes]
) -> None:
    terminal.environment |= {"HF_HOME": str(cache.parents[1]), "HF_ENDPOINT": hub.url}
    terminal.configure(large={"model_path": REPO, "engine_args": {"load_s": 8}})
    start = terminal.spawn("start")
    start.expect(r"large-0: downloading 10\.0 MiB of 24\.0 MiB")
    assert "downloading 10.0 MiB of 24.0 MiB" in terminal.run("status").out
    hub.flows.set()
    start.expect("large-0 is ready")
    start.expect(pexpect.EOF)
    assert Fetching(REPO).download() is None
    assert terminal.run("stop").code == 0


def test_only_what_is_on_its_way_is_a_download(cache: Path) -> None:
    fetching = Fetching(REPO)
    assert fetching.download() is None
    blobs = cache / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"x" * 2048)
    assert fetching.download() is None
    (blobs / "def.1234.incomplete").write_bytes(b"x" * 1024)
    # Nothing says how much is to come.
    assert str(fetching.download()) == "downloading 3.0 KiB"
    assert Fetching("deploy/demo-model").download() is None
    assert Fetching("/models/x").download() is None


def test_a_download_that_goes_on_does_not_make_a_start_overdue() -> None:
    wanted = ReplicaSpec("m", 0, "mock", ".venv", sys.executable, 100.0, {"model": {}})
    unit = Unit(wanted)
    unit.want(wanted, 0.0)
    unit.started(Process(Identity(os.getpid(), 0, "", ""), -1, 0.0), "m-0-abc", 0)
    heard(unit, 90.0, is_ready=False, downloaded_bytes=1 * GIB)
    heard(unit, 180.0, is_ready=False, downloaded_bytes=2 * GIB)
    assert unit.patience.deadline == 280.0
    heard(unit, 270.0, is_ready=False, downloaded_bytes=2 * GIB)
    heard(unit, 275.0, is_ready=False, stage="loading")
    assert unit.stage == "loading"
    assert unit.patience.deadline == 280.0
