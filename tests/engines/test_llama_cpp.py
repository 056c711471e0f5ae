"""A GGUF file in llama.cpp's own server, with one line of configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.asked import Guided
from contract.config import Config, ModelConfig, WorkerSpec
from contract.messages import ChatMessage, Job, Sampling
from contract.model_files.hub_cache import file_of
from orchestrator.config.selection import StartOptions, start_request
from orchestrator.errors import UserError
from workers.engine import JobRejected
from workers.engines.llama_cpp import llama_cpp_engine, parameters
from workers.engines.openai.upstream import Server
from workers.engines.openai.wire import request_body


def model(path: Path | str = "x.gguf", **settings: Any) -> ModelConfig:
    return ModelConfig(engine="llama-cpp", model_path=str(path), **settings)


def spec(configured: ModelConfig) -> WorkerSpec:
    return WorkerSpec(
        name="w",
        model_id="Team/m",
        model=configured,
        engine="llama-cpp",
        env="ew-llama-cpp",
        redis_url="redis://127.0.0.1",
    )


def test_every_slot_has_the_context_that_is_configured() -> None:
    assert parameters(model(max_model_len=1000, max_batch_size=3)) == {
        "n_parallel": 3,
        "n_ctx": 3000,
        "kv_unified": False,
    }
    assert parameters(model()) == {"n_parallel": 4, "n_ctx": 0, "kv_unified": True}
    own = {"n_gpu_layers": 9, "first_token_timeout_s": 5.0, "cpuparams.n_threads": 2}
    assert (
        parameters(model(engine_args=own)).items()
        >= {
            "n_gpu_layers": 9,
            "cpuparams.n_threads": 2,
        }.items()
    )
    assert "first_token_timeout_s" not in parameters(model(engine_args=own))


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file x\.gguf"):
        llama_cpp_engine(spec(model()))
    with pytest.raises(ValueError, match="`adapters`: the llama-cpp engine loads none"):
        llama_cpp_engine(spec(model(adapters={"a": "b"})))


@pytest.mark.parametrize(
    ("sampling", "prompt", "said"),
    [
        ({"min_tokens": 3}, "hi", "takes no min_tokens"),
        ({"temperature": -1.0}, "hi", "temperature is -1; it must be 0 or more"),
        ({"top_p": 5.0}, "hi", "top_p is 5; it must be above 0, and 1 at most"),
        ({}, "", "the prompt is empty"),
    ],
)
def test_what_the_server_would_ignore_or_take_for_something_else_is_rejected(
    sampling: dict[str, Any], prompt: str, said: str
) -> None:
    with pytest.raises(JobRejected, match=said):
        asked_of_llama_cpp(prompt=prompt, **sampling)


def asked_of_llama_cpp(prompt: str | None = None, **sampling: Any) -> dict[str, Any]:
    messages = (ChatMessage("user", "hi"),) if prompt is None else None
    job = Job("1", "m", Sampling(**sampling), prompt=prompt, messages=messages)
    return request_body(job, Server("llamacpp"), 5)


def test_a_completion_names_its_schema_as_the_server_does() -> None:
    schema = {"enum": ["a"]}
    wanted = Guided("json", json.dumps(schema))
    completion = asked_of_llama_cpp("hi", guided=wanted)
    assert completion["json_schema"] == schema
    assert "response_format" not in completion
    assert "json_schema" not in asked_of_llama_cpp(guided=wanted)
    any_object = asked_of_llama_cpp("hi", guided=Guided("json_object", ""))
    assert any_object["json_schema"] == {"type": "object"}


def test_log_probabilities_are_asked_for_with_an_alternative() -> None:
    assert asked_of_llama_cpp(logprobs=0)["top_logprobs"] == 1
    assert asked_of_llama_cpp("hi", logprobs=0)["logprobs"] == 1
    assert asked_of_llama_cpp("hi", logprobs=3)["logprobs"] == 3


def test_a_file_is_found_here_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    file = tmp_path / "tiny.gguf"
    file.touch()
    assert file_of(str(file)) == file
    assert file_of("Team/Tiny/q4/tiny.gguf") is None
    repo = tmp_path / "hub/models--Team--Tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc")
    (repo / "snapshots/abc/q4").mkdir(parents=True)
    (repo / "snapshots/abc/q4/tiny.gguf").touch()
    assert file_of("Team/Tiny/q4/tiny.gguf") == repo / "snapshots/abc/q4/tiny.gguf"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("models/none.gguf", "give a GGUF file"),
        ("Team/Tiny/tiny.gguf", "`./ew models pull Team/Tiny --include 'tiny.gguf'`"),
    ],
)
def test_a_file_that_is_not_here_is_said_at_once(path: str, hint: str) -> None:
    config = Config(models={"m": {"engine": "llama-cpp", "model_path": path}})
    with pytest.raises(UserError, match=f"`models.m.model_path` is no file here: {path}") as caught:
        start_request(config, StartOptions())
    assert hint in caught.value.hint
