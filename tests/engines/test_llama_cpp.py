"""A GGUF file in llama.cpp's own server, with one line of configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.config import Config, ModelConfig, WorkerSpec
from contract.hub_cache import file_of
from contract.messages import ChatMessage, Job, Sampling
from orchestrator.errors import UserError
from orchestrator.plan import Choice, plan
from workers.engine import JobRejected
from workers.engines.llama_cpp import llama_cpp_engine, parameters
from workers.engines.openai_wire import request_body
from workers.engines.upstream import Server


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
    asked = Job("1", "m", Sampling(min_tokens=3), messages=(ChatMessage("user", "hi"),))
    with pytest.raises(JobRejected, match="takes no min_tokens"):
        request_body(asked, Server("llamacpp"), 5)


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
    with pytest.raises(UserError, match=f"`m` is no file here: {path}") as caught:
        plan(config, Choice())
    assert hint in caught.value.hint
