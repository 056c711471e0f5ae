"""Workers as real processes, with the mock engine."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec

from contract.bus.heartbeats import Heartbeats
from contract.bus.records.worker_ends import WorkerEnds
from contract.config import ModelConfig, WorkerSpec
from contract.endings import EndedBy
from contract.messages import Heartbeat, State
from contract.paths import ROOT
from tests.contract.queue_workers import end_lease
from tests.waiting import until
from tests.workers.client import Client


def a_spec(client: Client, name: str, *, slots: int = 64, **given: Any) -> WorkerSpec:
    """Return what a worker with the mock engine needs; `engine_args` are the mock's script."""
    model = ModelConfig(
        engine="mock",
        model_path="-",
        max_batch_size=slots,
        engine_args=given.pop("engine_args", {}),
        watchdog=given.pop("watchdog", {}),
    )
    return WorkerSpec(
        name=name,
        model_id=client.queue.model,
        model=model,
        engine="mock",
        env="-",
        redis_url=given.pop("redis_url", client.url),
        **given,
    )


class WorkerProcess:
    """One worker process."""

    def __init__(self, spec: WorkerSpec, client: Client, directory: Path) -> None:
        self.name = spec.name
        self._client = client
        self._log = directory / f"{uuid.uuid4().hex}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers"],
                cwd=ROOT,
                env={**os.environ, "EW_WORKER": spec.model_dump_json()},
                stderr=log,
            )

    async def ready(self) -> WorkerProcess:
        await self._until_heartbeat(lambda beat: beat.state is State.READY)
        return self

    async def heartbeat(self) -> Heartbeat | None:
        """Return the worker's last sign of life, if its lease holds."""
        bodies = await Heartbeats(self._client.db, self._client.queue.model).alive()
        beats = [msgspec.msgpack.decode(body, type=Heartbeat) for body in bodies]
        return next((beat for beat in beats if beat.name == self.name), None)

    async def says(self, condition: Any, timeout_s: float = 40) -> None:
        """Return once a heartbeat meets the condition."""
        await self._until_heartbeat(condition, timeout_s)

    async def exits(self, timeout_s: float = 30) -> int:
        """Return the exit code, once the process has ended."""
        try:
            return await asyncio.to_thread(self.process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(5)
            raise AssertionError(f"it does not end:\n{self.log()}") from None

    async def kill(self, *, lease_ends: bool = True) -> None:
        """SIGKILL, and gone; its lease ends at once, as it would a little later."""
        self.process.kill()
        await self.exits()
        if lease_ends:
            await end_lease(self._client.db, self._client.queue.model, self.name)

    async def is_told_of(self, ended_by: EndedBy) -> None:
        """It is gone, and its supervisor says so."""
        ends = WorkerEnds(self._client.db, self._client.queue.model)
        await ends.end_lease(self.name, ended_by)

    async def freeze(self) -> None:
        """SIGSTOP, and seen to stand still."""
        self.process.send_signal(signal.SIGSTOP)
        await until(lambda: self.kernel_state() == "T")

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kernel_state(self) -> str:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    async def _until_heartbeat(self, condition: Any, timeout_s: float = 40) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            beat = await self.heartbeat()
            if beat is not None and condition(beat):
                return
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, (beat, self.log())
            await asyncio.sleep(0.02)


class WorkerProcesses:
    """All worker processes of a test."""

    def __init__(self, client: Client, directory: Path) -> None:
        self._client = client
        self._directory = directory
        self._started: list[WorkerProcess] = []
        self._names = (f"w-{n}" for n in itertools.count())

    def start(self, name: str | None = None, **given: Any) -> WorkerProcess:
        """Start a worker; await `ready` where it matters."""
        spec = a_spec(self._client, name or next(self._names), **given)
        worker = WorkerProcess(spec, self._client, self._directory)
        self._started.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._started:
            worker.close()
