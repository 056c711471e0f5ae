"""`engine_args` that the engine's release does not have are named before anything starts."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from contract.paths import ROOT
from orchestrator.environments import Environment
from orchestrator.environments.engine_arguments import known_arguments
from tests.engines.contract.engines import vllm_python
from tests.orchestrator.terminal import Terminal
from workers.engines.mock import MockScript
from workers.engines.openai.upstream import UpstreamSettings

VLLM = ROOT / ".ew/envs/ew-cpu-vllm"
#: As TensorRT-LLM writes them, in small.
LLM_ARGS = """
from pydantic import AliasChoices, Field, PrivateAttr
from typing import ClassVar, Optional

class KvCacheConfig:
    max_tokens: int = 0

class BaseLlmArgs(StrictBaseModel):
    model_config: ClassVar[dict] = {}
    model: str = Field(description="The model.")
    quant_config: object = Field(default=None, validation_alias=AliasChoices("quant", "q"))
    _world_size: int = PrivateAttr(default=1)

class TorchLlmArgs(BaseLlmArgs):
    attn_backend: str = Field(default="TRTLLM")

class TrtLlmArgs(BaseLlmArgs):
    enable_tqdm: bool = False
"""
LLM = """
class BaseLLM:
    def __init__(self, model, **kwargs):
        self._executor_cls = kwargs.pop("executor_cls", None)
"""


def environment(path: Path, engine: str) -> Environment:
    return Environment("e", engine, "9.9", "uv", {}, "cpu", "", 0.0, path)


def test_those_of_our_own_adapters_are_all_known() -> None:
    for engine, kind in (("mock", MockScript), ("openai", UpstreamSettings)):
        known = known_arguments(engine, None)
        assert known is not None
        assert known.names == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_what_is_read_of_vllm_is_what_vllm_takes() -> None:
    code = (
        "import dataclasses, json; from vllm import AsyncEngineArgs; "
        "print(json.dumps([field.name for field in dataclasses.fields(AsyncEngineArgs)]))"
    )
    command = [vllm_python(), "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    path = Path(vllm_python()).parents[1]
    known = known_arguments("cpu-vllm", environment(path, "cpu-vllm"))
    assert known is not None
    assert known.names == set(json.loads(told.stdout.splitlines()[-1]))
    assert known.release == "cpu-vllm 9.9"


def test_those_of_tensorrt_llm_are_of_both_backends_and_not_certain(tmp_path: Path) -> None:
    package = tmp_path / "lib/python3.12/site-packages/tensorrt_llm/llmapi"
    package.mkdir(parents=True)
    (package / "llm_args.py").write_text(LLM_ARGS)
    (package / "llm.py").write_text(LLM)
    known = known_arguments("cuda-trt", environment(tmp_path, "cuda-trt"))
    assert known is not None
    fields = {"model", "quant_config", "attn_backend", "enable_tqdm"}
    assert known.names == fields | {"quant", "q", "executor_cls", "beam_width"}
    assert not known.is_sure


@pytest.mark.parametrize("engine", ["cpu-vllm", "cuda-vllm", "cuda-trt", "llama-cpp"])
def test_what_cannot_be_read_is_not_guessed(engine: str, tmp_path: Path) -> None:
    assert known_arguments(engine, environment(tmp_path, engine)) is None
    assert known_arguments(engine, None) is None


def configure(terminal: Terminal, **model: object) -> None:
    models = {"m": {"model_path": str(ROOT / "deploy/demo-model"), **model}}
    terminal.config.write_text(json.dumps({"models": models}, indent=1))


@pytest.mark.vllm
def test_one_that_the_release_has_not_is_named_with_the_nearest(terminal: Terminal) -> None:
    if not (VLLM / "ew-env.json").exists():
        pytest.skip("no cpu-vllm environment: ./ew setup --engine cpu-vllm")
    terminal.state.mkdir()
    (terminal.state / "envs").symlink_to(VLLM.parent)
    configure(terminal, engine="cpu-vllm", engine_args={"enforce_eager": True, "max_num_seq": 2})
    checked, started = terminal.run("config", "check"), terminal.run("start")
    line, hint = checked.err.splitlines()
    assert line.startswith(f"error: {terminal.config}:8: `models.m.engine_args.max_num_seq`: cpu-v")
    assert line.endswith(" has no such argument")
    assert hint == "hint: did you mean `max_num_seqs`?"
    assert (checked.code, started.code, started.err) == (1, 1, checked.err)


def test_without_the_environment_it_is_said_that_they_could_not_be_checked(
    terminal: Terminal,
) -> None:
    configure(terminal, engine="cpu-vllm", engine_args={"max_num_seq": 2})
    checked = terminal.run("config", "check")
    minded, good = checked.err.splitlines()
    assert "`models.m.engine_args` cannot be checked: the environment `ew-cpu-vllm`" in minded
    assert "is not set up" in minded
    assert "./ew setup --engine cpu-vllm" in minded
    assert (checked.code, "is good" in good) == (0, True)


def test_what_is_said_to_nobody_or_twice_is_named(terminal: Terminal) -> None:
    server = {"engine": "openai", "base_url": "http://127.0.0.1:9", "quantization": "fp8"}
    configure(terminal, **server, engine_args={"server": "vllm"})
    assert (
        f"warning: {terminal.config}:7: `models.m.quantization` means nothing to the engine"
        in terminal.run("config", "check").err
    )
    configure(terminal, engine="cpu-vllm", engine_args={"max_num_seqs": 2})
    said = "`models.m.engine_args.max_num_seqs` wins over `max_batch_size`, which says the same"
    assert said in terminal.run("config", "check").err
    assert said in terminal.run("doctor").out
