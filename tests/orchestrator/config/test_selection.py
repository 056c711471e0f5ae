"""From configuration and command line to what shall run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from contract.config import Config, WorkerSpec
from orchestrator.config import selection as planning
from orchestrator.config.selection import StartOptions, chosen_models, start_request
from orchestrator.errors import UserError


def config_of(**models: dict[str, Any]) -> Config:
    return Config(
        models={name: {"model_path": "deploy/x", **model} for name, model in models.items()}
    )


THREE = config_of(
    a={"engine": "mock", "replicas": 2}, b={"engine": "openai"}, c={"engine": "cuda-trt"}
)


def test_everything_is_chosen_unless_something_is() -> None:
    assert chosen_models(THREE, StartOptions()) == ["a", "b", "c"]
    assert chosen_models(THREE, StartOptions(models=("b", "a"))) == ["a", "b"]
    assert chosen_models(THREE, StartOptions(engine="cuda-trt")) == ["c"]


def test_vllm_is_chosen_by_the_name_it_has_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        planning, "resolve_engine", lambda name: "cpu-vllm" if name == "vllm" else name
    )
    config = config_of(v={"engine": "vllm"}, w={"engine": "cuda-vllm"})
    assert chosen_models(config, StartOptions(engine="cpu-vllm")) == ["v"]
    assert chosen_models(config, StartOptions(engine="vllm")) == ["v"]


@pytest.mark.parametrize(
    ("choice", "message", "hint"),
    [
        (StartOptions(models=("aa",)), "no model `aa`", "did you mean `a`?"),
        (StartOptions(models=("zebra",)), "no model `zebra`", "configured are `a`, `b`, `c`"),
        (StartOptions(engine="cpu-vllm"), "no such model has the engine `cpu-vllm`", "`cuda-trt`"),
    ],
)
def test_what_is_not_there_is_explained(choice: StartOptions, message: str, hint: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        chosen_models(THREE, choice)
    assert hint in caught.value.hint


def test_without_models_there_is_nothing_to_start() -> None:
    with pytest.raises(UserError, match="has no models"):
        start_request(Config(), StartOptions())


def test_a_worker_is_described_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_LIMITS__MAX_CHOICES", "3")
    monkeypatch.setenv("EW_API_KEY", "secret")
    request = start_request(THREE, StartOptions(models=("a",), port=0))
    assert [worker.slot for worker in request.workers] == ["a-0", "a-1"]
    worker = request.workers[0]
    assert worker.python == sys.executable
    spec = WorkerSpec.model_validate({**worker.spec, "name": "n", "redis_url": "u"})
    assert spec.model == THREE.models["a"]
    assert request.gateway is not None
    assert request.gateway.port == 0
    assert request.variables["EW_LIMITS__MAX_CHOICES"] == "3"
    assert "EW_API_KEY" not in request.variables


def test_an_environment_that_is_missing_is_named_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))
    (tmp_path / "config.json").touch()
    config = config_of(c={"engine": "cuda-trt", "model_path": str(tmp_path)})
    with pytest.raises(UserError, match="needs the environment `ew-cuda-trt`") as caught:
        start_request(config, StartOptions())
    assert caught.value.hint == "`./ew setup --engine cuda-trt`"
    with pytest.raises(UserError, match="`other`") as caught:
        start_request(config, StartOptions(env="other"))
    assert caught.value.hint == "`./ew setup --engine cuda-trt --env other`"


def test_a_model_path_that_is_nothing_is_found_before_anything_starts() -> None:
    config = config_of(c={"engine": "cpu-vllm", "model_path": "/no/such/model"})
    with pytest.raises(UserError, match="does not exist: /no/such/model"):
        start_request(config, StartOptions())
