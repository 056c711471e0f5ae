"""`./ew start` of a TensorRT-LLM plan that does not fit: one line and the command that mends it,
before anything is started. The GPUs are the stand-in driver's."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from contract.config import Config
from contract.paths import ROOT
from orchestrator.client.reach import is_running
from orchestrator.config.selection import StartOptions, start_request
from orchestrator.environments.declaration import load_engines
from orchestrator.environments.environment import Environment, envs_dir, write_stamp
from orchestrator.errors import UserError
from tests.orchestrator.conftest import Host
from tests.orchestrator.gpu_host import STANDINS
from tests.orchestrator.tensorrt.test_plan import build
from tests.orchestrator.terminal import Result, Terminal

H100 = {"uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "capability": [9, 0]}
A100 = {"uuid": "GPU-b", "name": "NVIDIA A100-SXM4-80GB", "capability": [8, 0]}


@pytest.fixture(autouse=True)
def environment(host: Host) -> None:
    """It looks like one with TensorRT-LLM 1.2.1, and runs nothing."""
    path = envs_dir() / "ew-cuda-trt"
    (path / "bin").mkdir(parents=True)
    (path / "bin/python").write_text("#!/bin/sh\nexit 3\n")
    (path / "bin/python").chmod(0o755)
    digest = load_engines()["cuda-trt"].releases["1.2.1"].digest
    versions = {"tensorrt_llm": "1.2.1"}
    write_stamp(
        Environment("ew-cuda-trt", "cuda-trt", "1.2.1", "uv", versions, "", digest, 0.0, path)
    )


def start(terminal: Terminal, *cards: dict[str, Any], **model: Any) -> Result:
    """Start `chat`, with these GPUs in the host."""
    scene = terminal.state / "scene.json"
    scene.write_text(json.dumps({"cards": cards}))
    path = terminal.state / "plan"
    if not path.exists():
        build(path)
    terminal.configure(chat={"engine": "cuda-trt", "model_path": str(path), **model})
    python_path = os.pathsep.join([str(STANDINS / "pynvml"), str(ROOT)])
    return terminal.run("start", PYTHONPATH=python_path, PYNVML_SCENE=str(scene))


def assert_refused(said: Result, *words: str) -> list[str]:
    """Answers the words of the command that mends it."""
    assert (said.code, said.out) == (1, ""), said
    error, hint = said.err.splitlines()
    assert error.startswith("error: ")
    assert all(word in error for word in words), said
    assert not is_running()
    return shlex.split(hint[hint.index("./ew convert-trt") :])


def test_a_plan_for_other_gpus(terminal: Terminal) -> None:
    said = start(terminal, A100)
    command = assert_refused(said, "`chat`", "compute capability 9.0", A100["name"])
    assert command[:4] == ["./ew", "convert-trt", "--model", "Qwen/Qwen2.5-7B-Instruct"]


def test_a_plan_for_gpus_that_the_model_may_not_use(terminal: Terminal) -> None:
    assert_refused(start(terminal, H100, A100, gpus=[1]), "compute capability 9.0", A100["name"])


def test_limits_beyond_those_of_the_plan(terminal: Terminal) -> None:
    command = assert_refused(start(terminal, H100, max_input_len=8192), "`max_input_len` 8192")
    assert command[command.index("--max-input-len") + 1] == "8192"


def test_a_plan_of_another_release(terminal: Terminal) -> None:
    config = build(terminal.state / "plan", with_manifest=False).path / "config.json"
    config.write_text(config.read_text().replace("1.2.1", "1.1.0"))
    assert_refused(start(terminal, H100), "TensorRT-LLM 1.1.0", "environment has 1.2.1")


@pytest.mark.parametrize("damage", [{"build_config": {}}, {"build_config": []}])
def test_a_plan_that_cannot_be_understood(terminal: Terminal, damage: dict[str, Any]) -> None:
    config = build(terminal.state / "plan").path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | damage))
    assert_refused(start(terminal, H100, max_batch_size=8), "cannot be understood", "plan")


def test_a_plan_that_fits_is_started(terminal: Terminal) -> None:
    said = start(terminal, A100, H100, start_timeout_s=5)
    assert "plan of model" not in said.err
    assert "exited with code 3" in said.err
    terminal.run("stop")


def test_without_a_driver_the_rest_is_checked(tmp_path: Path) -> None:
    build(tmp_path / "plan")
    model = {"engine": "cuda-trt", "model_path": str(tmp_path / "plan")}
    (worker,) = start_request(Config(models={"chat": model}), StartOptions()).workers
    assert worker.version == "1.2.1"
    with pytest.raises(UserError, match="max_batch_size"):
        start_request(Config(models={"chat": {**model, "max_batch_size": 65}}), StartOptions())
