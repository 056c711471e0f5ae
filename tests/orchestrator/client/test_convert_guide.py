"""docs/tensorrt-llm.md, followed word by word: every command on the page is run, in the page's
order, with the demo model in the place of the one that it names and a stand-in for TensorRT-LLM."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.paths import ROOT
from contract.process.ports import free_port
from orchestrator.environments.declaration import load_engines
from orchestrator.environments.environment import Environment, write_stamp
from tests.engines.contract.engines import MODEL_DIR, vllm_python
from tests.standins import trtllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PAGE = (ROOT / "docs" / "tensorrt-llm.md").read_text()
REPOSITORY = "Qwen/Qwen2.5-7B-Instruct"


def commands() -> list[str]:
    """Return the lines that begin with `$` in the page's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line]


class Reader:
    """A user that follows the page, on a host of their own: `project` looks like a fresh clone,
    and has two environments whose TensorRT-LLM is the stand-in."""

    def __init__(self, home: Path) -> None:
        self.project = home / "ew"
        self._state = home / "state"
        self._port = free_port()
        self.project.mkdir(parents=True)
        for name in ("contract", "gateway", "workers", "orchestrator", "scripts", "docs"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.project / name, ignore=ignored)
        shutil.copytree(ROOT / "deploy", self.project / "deploy")
        self._programs = home / "bin"
        self._programs.mkdir()
        self._make_environment("ew-cuda-trt", "1.2.1")
        self._make_environment("trt-next", "1.3.0rc29")
        self._command = self.project / "ew"
        # As `ew` does once .venv is there, which is this Python here.
        self._write(
            self._command, f'cd {self.project} && exec {sys.executable} -P -m orchestrator "$@"'
        )
        self._write(self._programs / "python", f'exec {self._python("ew-cuda-trt")} "$@"')
        self._cache = home / "hub"
        trtllm.cache_model(self._cache, REPOSITORY, with_long_context(MODEL_DIR, home / "model"))

    def run(self, command: str) -> str:
        """Answers what was said. Fails unless the command does what it should."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.project,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def models(self) -> dict[str, Any]:
        config = json.loads((self.project / "deploy" / "config.json").read_text())
        models: dict[str, Any] = config["models"]
        return models

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": os.pathsep.join((str(self._programs), os.environ["PATH"])),
            "PYTHONPATH": str(self.project),
            "EW_STATE_DIR": str(self._state),
            "EW_GATEWAY__PORT": str(self._port),
            "HF_HUB_CACHE": str(self._cache),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
        }

    def _make_environment(self, name: str, version: str) -> None:
        path = self._state / "envs" / name
        (path / "bin").mkdir(parents=True)
        release = load_engines()["cuda-trt"].releases[version]
        standin = trtllm.environment(version)
        exports = "\n".join(
            f"export {key}={value}" for key, value in standin.items() if key != "PYTHONPATH"
        )
        self._write(
            path / "bin" / "python",
            f'{exports}\nexport PYTHONPATH="{standin["PYTHONPATH"]}:$PYTHONPATH"\n'
            f'exec {vllm_python()} "$@"',
        )
        environment = Environment(
            name=name, engine="cuda-trt", version=version, manager="uv",
            versions={"tensorrt_llm": version}, device="stand-in", digest=release.digest,
            created_unix_s=0.0, path=path,
        )  # fmt: skip
        write_stamp(environment)

    def _python(self, name: str) -> Path:
        return self._state / "envs" / name / "bin" / "python"

    @staticmethod
    def _write(path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.run("./ew stop")


@pytest.mark.slow
def test_the_page_can_be_followed_from_nothing_to_a_served_plan(reader: Reader) -> None:
    said = {command: reader.run(command) for command in commands()}
    plan = reader.project / "models" / "Qwen2.5-7B-Instruct-trt"
    assert (plan / "rank0.engine").exists()
    assert reader.models()["qwen-7b"]["model_path"] == "models/Qwen2.5-7B-Instruct-trt"
    assert reader.models()["qwen-7b"]["max_input_len"] == 8192
    assert reader.models()["qwen-7b-next"]["env"] == "trt-next"
    answers = [text for command, text in said.items() if "ew chat" in command]
    assert answers
    assert all(text.strip() for text in answers)


def test_every_command_that_the_page_names_is_one(reader: Reader) -> None:
    for name in sorted(set(re.findall(r"`\./ew ([a-z-]+)", PAGE))):
        assert "Usage" in reader.run(f"./ew {name} --help")


def with_long_context(checkpoint: Path, copy: Path) -> Path:
    """Return the demo model has a shorter context than the one that the page is about."""
    shutil.copytree(checkpoint, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32768}))
    return copy
