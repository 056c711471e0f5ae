"""A host with GPUs that are all script: the real supervisor, gateway, Valkey and workers with the
mock engine run over the stand-in for NVML, and are driven by the command line and over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest

from contract.keys import make_key
from contract.messages import State
from contract.paths import ROOT
from contract.process.process_table import read_environment
from contract.supervision.status import GpuStatus, ModelStatus, WorkerStatus
from orchestrator.client.reach import is_running
from orchestrator.protocol.status import read_status
from orchestrator.system.marks import kill_orphans
from tests.orchestrator.terminal import Result, Terminal
from tests.waiting import eventually

STANDINS = Path(__file__).parents[1] / "standins"
CARD = {"uuid": "GPU-a", "total_mib": 80 * 1024, "driver_mib": 600}

SomeHost = TypeVar("SomeHost", bound="GpuHost")


class GpuHost:
    """Its cards, its models, and what can be seen of it."""

    def __init__(self, directory: Path) -> None:
        self.terminal = Terminal(directory)
        self.scene = directory / "scene.json"
        self._key = make_key("everything")
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.show(CARD)

    def show(self, *cards: dict[str, Any], **driver: Any) -> None:
        """From now on these cards are there, and the driver behaves so."""
        new = self.scene.with_suffix(".new")
        new.write_text(json.dumps({"cards": cards, **driver}))
        new.rename(self.scene)

    def configure(self, **models: dict[str, Any]) -> None:
        """Mock models; `mib` is what each takes of a GPU, `load_s` how long its load takes."""
        whole = {}
        for model, settings in models.items():
            args = {"allocate_mib": settings.pop("mib", 0), "load_s": settings.pop("load_s", 0)}
            whole[model] = {**settings, "engine_args": {**args, **settings.get("engine_args", {})}}
        self.terminal.configure(**whole)

    def supervise(self) -> None:
        """Start the supervisor, on top of the scripted driver."""
        self.terminal.state.mkdir(exist_ok=True)
        environment = self.terminal.environment | {
            "PYTHONPATH": os.pathsep.join([str(STANDINS / "pynvml"), str(ROOT)]),
            "PYNVML_SCENE": str(self.scene),
        }
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        log = self.terminal.state / "daemon.log"
        with log.open("ab") as output:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.supervisor.daemon"],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        eventually(is_running, 20)

    def end(self) -> None:
        """Stop everything at once."""
        self.run("stop", "--now")
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()

    def start(self, *arguments: str) -> Result:
        """`ew start`, with a key for everything."""
        if not is_running():
            self.supervise()
        keys = self.terminal.state / "keys.json"
        keys.write_bytes(msgspec.json.encode([self._key.record]))
        keys.chmod(0o600)
        return self.terminal.run("start", *arguments)

    @property
    def api_key(self) -> str:
        """Of an API key for everything."""
        return self._key.text

    def run(self, *arguments: str) -> Result:
        return self.terminal.run(*arguments)

    def supervisor_pid(self) -> int | None:
        """Of the one that wrote the status."""
        supervisor = read_status().supervisor
        return supervisor.pid if supervisor else None

    def model(self, name: str) -> ModelStatus:
        return next(each for each in read_status().models if each.id == name)

    def worker(self, name: str, replica: int = 0) -> WorkerStatus:
        return self.model(name).workers[replica]

    def is_loaded(self, name: str) -> bool:
        return all(each.state is State.READY for each in self.model(name).workers)

    def gpu(self, index: int = 0) -> GpuStatus:
        return read_status().gpus[index]

    def visible_devices(self, name: str, replica: int = 0) -> str:
        """CUDA_VISIBLE_DEVICES of a worker that runs."""
        pid = self.worker(name, replica).pid
        assert pid is not None
        lines = read_environment(pid)
        return next(line.partition("=")[2] for line in lines if line.startswith("CUDA_VISIBLE"))

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        gateway = read_status().gateway
        assert gateway is not None
        headers = {"X-API-Key": self._key.text}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
            yield client

    def ask(self, model: str, tokens: int = 3, prompt: str = "x") -> httpx.Response:
        body = {"modelId": model, "prompt": prompt, "maxTokens": tokens}
        with self.client() as client:
            return client.post("/api/v1/inference", json=body)

    def stream(self, model: str, tokens: int = 3) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of an answer: name (`text` if it has none) and data."""
        body = {"modelId": model, "prompt": "x", "maxTokens": tokens}
        with self.client() as client:
            answer = client.post("/api/v1/inference/stream", json=body)
        return [_event(block) for block in answer.text.split("\n\n") if "data:" in block]

    def metrics(self) -> str:
        with self.client() as client:
            return client.get("/metrics").text


def _event(block: str) -> tuple[str, dict[str, Any]]:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
    return fields.get("event", "text"), json.loads(fields["data"])


@contextmanager
def running(kind: Callable[[Path], SomeHost], **variables: str) -> Iterator[SomeHost]:
    """Yield a host of this kind, whose state the environment names meanwhile."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ew-") as made:
        for name, value in {"EW_STATE_DIR": f"{made}/state", **variables}.items():
            patch.setenv(name, value)
        host = kind(Path(made))
        try:
            yield host
        finally:
            host.end()
            while kill_orphans([]):
                pass
