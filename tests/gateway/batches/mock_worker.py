"""A real worker process with the mock engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from contract.config import ModelConfig, WorkerSpec

ROOT = Path(__file__).parents[3]


class MockWorker:
    """Started and killed as often as a test likes."""

    def __init__(self, directory: Path, redis_url: str, model: str, **engine_args: Any) -> None:
        given = {"tokens_per_s": 1000, **engine_args}
        config = ModelConfig(engine="mock", model_path="none", max_batch_size=64, engine_args=given)
        spec = WorkerSpec(
            name=f"{model}/0",
            model_id=model,
            model=config,
            engine="mock",
            env="none",
            redis_url=redis_url,
        )
        self._environment = {**os.environ, "EW_WORKER": spec.model_dump_json()}
        self._log = directory / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "workers"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stderr=log, stdout=log
            )

    def kill(self) -> None:
        """SIGKILL, and gone."""
        if self._process is not None:
            assert self._process.poll() is None, self._log.read_text()
            self._process.kill()
            assert self._process.wait() == -9
            self._process = None
