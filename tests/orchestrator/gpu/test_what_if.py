"""`./ew estimate`: what models need and where they would go, on these GPUs and on imagined ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from contract.paths import ROOT
from orchestrator.cli import plain_app
from orchestrator.cli.configure.estimate import estimate
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
