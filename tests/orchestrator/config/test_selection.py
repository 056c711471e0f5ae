"""From configuration and command line to what shall run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from contract.config import Config, WorkerSpec
from orchestrator.config import selection as planning
from orchestrator.config.selection import (
    Role,
    StartOptions,
    chosen_models,
    role_named,
    start_request,
)
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


def config_of_hosts(redis_url: str | None = "redis://shared:6379/0") -> Config:
    """Two models for hosts with GPUs, one for any host, and a gateway for `front`."""
    return Config.model_validate(
        {
            "models": {
                "a": {"engine": "mock", "model_path": "x", "hosts": ["gpu-*"]},
                "b": {"engine": "mock", "model_path": "x", "hosts": ["gpu-1"]},
                "c": {"engine": "mock", "model_path": "x"},
            },
            "gateway": {"hosts": ["front"]},
            "redis": {"url": redis_url},
        }
    )


@pytest.mark.parametrize(
    ("host", "models", "has_gateway"),
    [
        ("front", ["c"], True),
        ("gpu-1", ["a", "b", "c"], False),
        ("gpu-2", ["a", "c"], False),
    ],
)
def test_each_host_runs_its_part_of_one_configuration(
    monkeypatch: pytest.MonkeyPatch, host: str, models: list[str], *, has_gateway: bool
) -> None:
    monkeypatch.setenv("EW_HOST_NAME", host)
    request = start_request(config_of_hosts(), StartOptions())
    assert [worker.model for worker in request.workers] == models
    assert (request.gateway is not None) is has_gateway


@pytest.mark.parametrize(
    ("role", "workers", "has_gateway"),
    [("all", 3, True), ("gateway", 0, True), ("workers", 3, False)],
)
def test_a_role_leaves_a_part_to_other_hosts(role: str, workers: int, *, has_gateway: bool) -> None:
    config = config_of(a={"engine": "mock", "replicas": 2}, b={"engine": "mock"})
    config = config.model_copy(update={"redis": config_of_hosts().redis})
    request = start_request(config, StartOptions(role=role_named(role)))
    assert len(request.workers) == workers
    assert (request.gateway is not None) is has_gateway


@pytest.mark.parametrize(
    ("host", "choice", "message", "hint"),
    [
        (
            "front",
            StartOptions(models=("a",)),
            "is for other hosts: gpu-*; this one is `front`",
            "EW_HOST_NAME",
        ),
        (
            "gpu-2",
            StartOptions(role=Role.GATEWAY),
            "the gateway is for other hosts: front",
            "gateway.hosts",
        ),
        (
            "front",
            StartOptions(models=("c",), role=Role.GATEWAY),
            "runs no models",
            "leave them out",
        ),
        ("x", StartOptions(engine="mock", models=("b",)), "other hosts: gpu-1", "models.b.hosts"),
    ],
)
def test_a_part_that_is_for_other_hosts_is_refused_with_their_names(
    monkeypatch: pytest.MonkeyPatch, host: str, choice: StartOptions, message: str, hint: str
) -> None:
    monkeypatch.setenv("EW_HOST_NAME", host)
    with pytest.raises(UserError) as caught:
        start_request(config_of_hosts(), choice)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_part_alone_needs_a_redis_that_the_others_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_HOST_NAME", "gpu-1")
    with pytest.raises(UserError, match=r"only workers needs `redis\.url`"):
        start_request(config_of_hosts(redis_url=None), StartOptions())
    with pytest.raises(UserError, match=r"only a gateway needs `redis\.url`"):
        start_request(THREE, StartOptions(role=Role.GATEWAY))


def test_a_host_that_is_named_nowhere_is_told_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_HOST_NAME", "stranger")
    config = config_of_hosts()
    del config.models["c"]
    with pytest.raises(UserError, match="nothing is configured for this host, `stranger`"):
        start_request(config, StartOptions())


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(UserError, match="there is no role `boss`") as caught:
        role_named("boss")
    assert "`workers`" in caught.value.hint
