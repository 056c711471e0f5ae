"""`./ew estimate`: what models need and where they would go, on these GPUs and on imagined ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from contract.paths import ROOT
from orchestrator.cli import plain_app
from orchestrator.cli.configure import estimate as command
from orchestrator.cli.configure.estimate import estimate
from orchestrator.environments import Environment
from orchestrator.errors import UserError
from orchestrator.gpu.what_if.what_if import imagined
from orchestrator.terminal.sizes import GIB
from tests.orchestrator.models_on_disk import QWEN2_7B, QWEN2_HALF_B, MakeModel
from tests.orchestrator.scenes import Scene

CARD = {"uuid": "GPU-a", "name": "NVIDIA H200", "total_mib": 80 * 1024, "driver_mib": 600}


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: MakeModel) -> Any:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("EW_CONFIG", str(tmp_path / "config.json"))
    paths = {"7b": str(make_model(QWEN2_7B, "7b")), "0.5b": str(make_model(QWEN2_HALF_B, "0.5b"))}

    def write(**models: dict[str, Any]) -> None:
        for model in models.values():
            model.setdefault("engine", "cuda-vllm")
            model.setdefault("max_model_len", 4096)
            model["model_path"] = paths.get(model["model_path"], model["model_path"])
        (tmp_path / "config.json").write_text(json.dumps({"models": models}))

    return write


def ew_estimate(*arguments: str) -> Result:
    app = plain_app()
    app.command("estimate")(estimate)
    return CliRunner().invoke(app, arguments)


def figures(*arguments: str) -> dict[str, Any]:
    models = json.loads(ew_estimate("--json", *arguments).stdout)["models"]
    return {model["id"]: model for model in models}


def test_parts_and_place_are_shown(configure: Any, scene: Scene) -> None:
    scene.show(CARD)
    configure(qwen={"model_path": "7b"})
    shown = ew_estimate()
    assert shown.exit_code == 0
    assert "  weights       14.2 GiB  safetensors headers" in shown.stdout
    assert "at least: one sequence, 4096 tokens of 56.0 KiB" in shown.stdout
    assert "qwen-0 would take" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())


def test_no_gpu_is_needed(configure: Any, scene: Scene) -> None:
    scene.show(driver="LIBRARY_NOT_FOUND")
    configure(qwen={"model_path": "7b"})
    shown = ew_estimate()
    assert shown.exit_code == 0
    assert "in all" in shown.stdout
    assert "there is no NVIDIA driver" in shown.stderr
    assert "--on 1x80" in shown.stderr


def test_gpus_can_be_imagined(configure: Any, scene: Scene) -> None:
    scene.show(driver="LIBRARY_NOT_FOUND")
    configure(qwen={"model_path": "7b", "replicas": 2})
    placed = figures("--on", "2x80")["qwen"]["placed"]
    assert [list(each["bytes_by_gpu"]) for each in placed] == [["GPU-0"], ["GPU-1"]]
    refused = ew_estimate("--on", "2x10")
    assert refused.exit_code == 1
    assert "qwen-0 cannot be placed: `qwen` needs" in refused.stdout
    assert "GPU 1: 10.0 GiB free of 10.0 GiB" in refused.stdout


@pytest.mark.parametrize(
    ("text", "sizes"), [("2x80", [80, 80]), ("1 x 24 GiB", [24]), ("3x0.5g", [0.5] * 3)]
)
def test_imagined_gpus_are_described_in_a_word(text: str, sizes: list[float]) -> None:
    assert [device.total_bytes / GIB for device in imagined(text).devices] == sizes


def test_what_describes_no_gpus_is_an_error() -> None:
    with pytest.raises(UserError, match="does not describe GPUs"):
        imagined("large")


def test_a_model_that_is_not_here_does_not_hide_the_others(configure: Any, scene: Scene) -> None:
    scene.show(CARD)
    configure(gone={"model_path": "Org/Gone"}, qwen={"model_path": "0.5b"})
    shown = ew_estimate()
    assert shown.exit_code == 1
    assert "`Org/Gone` is not on this host" in shown.stdout
    assert "qwen-0 would take" in shown.stdout


def test_models_that_are_always_loaded_leave_room_for_one_on_demand(
    configure: Any, scene: Scene
) -> None:
    scene.show(CARD)
    configure(
        greedy={"model_path": "7b", "max_model_len": 32768, "max_batch_size": 64},
        rare={"model_path": "7b", "load": "on-demand", "max_batch_size": 64},
    )
    found = figures()
    assert found["rare"]["refused"] == []
    (rare,) = found["rare"]["placed"]
    (greedy,) = found["greedy"]["placed"]
    assert greedy["kv_cache_bytes"] < found["greedy"]["kv_cache"]["wanted_bytes"]
    assert sum([*rare["bytes_by_gpu"].values(), *greedy["bytes_by_gpu"].values()]) <= 80 * GIB


def test_engines_that_run_elsewhere_take_nothing(configure: Any, scene: Scene) -> None:
    scene.show(CARD)
    configure(far={"model_path": "x", "engine": "openai", "base_url": "http://127.0.0.1:1"})
    assert "takes no GPU memory" in ew_estimate().stdout


def test_the_documentation_shows_what_is_really_printed(configure: Any, scene: Scene) -> None:
    limits = {"max_model_len": None, "max_input_len": 4096, "max_output_len": 2048}
    configure(qwen={"model_path": "7b", "max_batch_size": 64, **limits})
    shown = ew_estimate("qwen", "--on", "2x80").stdout
    assert shown.strip() in (ROOT / "docs" / "memory.md").read_text()


def test_memory_that_strangers_have_is_named(configure: Any, scene: Scene) -> None:
    scene.show(CARD | {"processes": [{"pid": 4_000_000, "mib": 79 * 1024}]})
    configure(qwen={"model_path": "7b"})
    shown = ew_estimate("qwen")
    assert shown.exit_code == 1
    assert "pid 4000000" in shown.stdout
    assert "79.0 GiB" in shown.stdout


#: The words after an answer without figures.
NEXT = "its first start measures it, and another release may say it"


def environment(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let there be an environment of vLLM whose Python is this shell script."""
    python = directory / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    there = Environment("e", "cuda-vllm", "0.26.0", "uv", {}, "cpu", "", 0.0, directory)
    monkeypatch.setattr(command, "find_environment", lambda _: there)


def reading(model: str) -> tuple[str, str]:
    """Return whose reading counted, and why ew's own did: as programs read it."""
    found = figures(model, "--on", "1x80")[model]
    return found["source"], found["own_reading"]


def words(text: str) -> str:
    return " ".join(text.split())


def test_it_says_that_there_is_no_environment_to_ask(configure: Any, scene: Scene) -> None:
    configure(qwen={"model_path": "0.5b"})
    whose, why = reading("qwen")
    assert whose == "ew"
    assert why == "it has no environment here; `./ew setup --engine cuda-vllm` makes one to ask"
    shown = ew_estimate("qwen", "--on", "1x80").stdout
    assert f"context and layers as ew reads the files: {why}" in words(shown)
    # As one that can be copied.
    assert "`./ew setup --engine cuda-vllm`" in shown


def test_it_says_why_the_engine_did_not_answer(
    configure: Any, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path, monkeypatch, "echo no libcuda >&2; exit 1")
    configure(qwen={"model_path": "0.5b"})
    whose, why = reading("qwen")
    assert whose == "ew"
    assert "cannot be asked what it makes of the model: no libcuda" in why
    assert "`./ew estimate` asks it again" in why
    assert why in words(ew_estimate("qwen", "--on", "1x80").stdout)


@pytest.mark.parametrize(
    ("answer", "source", "why", "shown"),
    [
        (
            {"error": "no such architecture"},
            "ew",
            f"vLLM does not say what it makes of the model: no such architecture; {NEXT}",
            "context and layers as ew reads the files: vLLM does not say what it makes",
        ),
        (
            {"release": "0.26.0", "context_len": 32768, "error": "a kernel is missing"},
            "vLLM 0.26.0",
            f"vLLM does not say what its layers keep: a kernel is missing; {NEXT}",
            "context as vLLM 0.26.0 has it, layers as ew reads the files: vLLM does not say",
        ),
        (
            {"release": "0.26.0", "context_len": 32768, "caches": []},
            "vLLM 0.26.0",
            "",
            "context and layers as vLLM 0.26.0 has them",
        ),
    ],
)
def test_it_says_whose_reading_it_is(
    configure: Any,
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
    source: str,
    why: str,
    shown: str,
) -> None:
    environment(tmp_path, monkeypatch, f"echo '{json.dumps(answer)}'")
    configure(qwen={"model_path": "0.5b"})
    assert reading("qwen") == (source, why)
    assert shown in words(ew_estimate("qwen", "--on", "1x80").stdout)


def test_engines_that_cannot_be_asked_are_named(configure: Any, scene: Scene) -> None:
    configure(qwen={"model_path": "0.5b", "engine": "cuda-sglang"})
    whose, why = reading("qwen")
    assert whose == "ew"
    assert why == "cuda-sglang cannot be asked; what it takes is measured at its first start"


def test_what_is_given_is_read_from_no_files(configure: Any, scene: Scene) -> None:
    configure(qwen={"model_path": "0.5b", "gpu_memory_gib": 20})
    assert reading("qwen") == ("ew", "")
