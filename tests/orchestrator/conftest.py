"""A host of the test's own: a state directory, a real supervisor, fake workers."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml
import pytest

from contract.paths import run_dir
from contract.process.process_table import Entry, read_entry, read_environment, read_table
from contract.supervision.control import Finished, Outcome, Refused
from contract.supervision.status import RunStatus, WorkerStatus
from orchestrator.client.connect import connect_or_spawn
from orchestrator.client.reach import is_running, reach_supervisor
from orchestrator.protocol.control import Answer, Start, Stop
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec
from orchestrator.protocol.status import read_status
from orchestrator.system.marks import ROOT_VARIABLE, kill_orphans
from tests.orchestrator.models_on_disk import MakeModel, decoder_tensors, write_safetensors
from tests.orchestrator.scenes import Scene, scripted_driver
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


class Host:
    """An ew in a directory of its own: commands, and views of what they did."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._python = directory / "python"
        self._python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_WORKER}"\n')
        self._python.chmod(0o755)

    def worker(self, model: str, replica: int = 0, **wanted: Any) -> ReplicaSpec:
        """Return a fake worker; what is not a field of `ReplicaSpec` tells it how to behave."""
        python = wanted.pop("python", str(self._python))
        start_timeout_s = wanted.pop("start_timeout_s", 30.0)
        model_config = {"engine": "mock", "model_path": "none", "engine_args": wanted}
        return ReplicaSpec(
            model=model,
            replica=replica,
            engine="mock",
            env="fake",
            python=python,
            start_timeout_s=start_timeout_s,
            spec={"model_id": model, "engine": "mock", "env": "fake", "model": model_config},
        )

    def start(self, *workers: ReplicaSpec, gateway: GatewaySpec | None = None) -> list[Outcome]:
        answer = self.ask(Start(workers=list(workers), gateway=gateway))[-1]
        assert isinstance(answer, Finished), answer
        return answer.outcomes

    def stop(self, *models: str, now: bool = False) -> Answer:
        answer = self.ask(Stop(models=list(models), now=now))[-1]
        if not models:
            eventually(lambda: not is_running())
        return answer

    def ask(self, request: Start | Stop) -> list[Answer]:
        with connect_or_spawn() as control:
            answers = [answer for answer in control.ask(request) if answer is not None]
        assert isinstance(answers[-1], Finished | Refused)
        return answers

    def status(self) -> RunStatus:
        return read_status()

    def find_worker(self, slot: str) -> WorkerStatus:
        workers = [worker for model in self.status().models for worker in model.workers]
        return next(worker for worker in workers if worker.slot == slot)

    def supervisor_pid(self) -> int:
        control = reach_supervisor()
        assert control is not None
        with control:
            return control.peer()

    def kill_supervisor(self) -> None:
        pid = self.supervisor_pid()
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        # Not its leader alone: the other threads keep the socket open for a moment.
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)

    def processes(self) -> list[Entry]:
        """Everything that this host's supervisors have started and that still runs."""
        mark = f"{ROOT_VARIABLE}={run_dir()}"
        entries = read_table().values()
        return [
            each for each in entries if not each.is_zombie and mark in read_environment(each.pid)
        ]

    def clean_up(self) -> None:
        control = reach_supervisor()
        if control is not None:
            with control:
                os.kill(control.peer(), signal.SIGKILL)
        while kill_orphans([]):
            time.sleep(0.02)
        shutil.rmtree(self.directory, onerror=_raise_if_there)


def _raise_if_there(function: object, path: str, exc_info: Any) -> None:
    """A supervisor that is just leaving takes its files away, too."""
    if not isinstance(exc_info[1], FileNotFoundError):
        raise exc_info[1]


def is_alive(pid: int) -> bool:
    entry = read_entry(pid)
    return entry is not None and not entry.is_zombie


@contextmanager
def _new_host(patch: pytest.MonkeyPatch) -> Iterator[Host]:
    directory = Path(tempfile.mkdtemp(prefix="ew-"))
    patch.setenv("EW_STATE_DIR", str(directory / "state"))
    host = Host(directory)
    yield host
    host.clean_up()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with _new_host(monkeypatch) as host:
        yield host


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    """A host for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch, _new_host(patch) as host:
        yield host


@pytest.fixture
def model() -> str:
    return f"m{uuid.uuid4().hex[:6]}"


@pytest.fixture
def terminal(host: Host) -> Terminal:
    """The command line on the same state directory as `host`."""
    return Terminal(host.directory)


def mount(directory: Path, *arguments: str) -> None:
    """Mount something there, or skip the test where that is not allowed."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", *arguments, str(directory)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    directory = tmp_path / "disk"
    mount(directory, "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a decoder's files: config.json, and a safetensors file with a true header and a
    hole where the weights would be."""

    def make(config: dict[str, Any], name: str = "model", dtype: str = "BF16") -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(config))
        write_safetensors(path / "model.safetensors", decoder_tensors(config), dtype)
        return path

    return make


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Below the real bindings, the scripted driver of the stand-in; nothing above notices."""
    driver = scripted_driver()
    path = tmp_path / "scene.json"
    monkeypatch.setenv("PYNVML_SCENE", str(path))
    monkeypatch.setattr(pynvml, "nvmlLib", driver.ScriptedDriver())
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return Scene(path, driver)
