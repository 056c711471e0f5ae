"""Models on disk and GPUs for the tests of GPU memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.orchestrator.memory.models_on_disk import decoder_tensors, write_safetensors
from tests.orchestrator.memory.scenes import Scene, scripted_driver

MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a decoder's files: config.json, and a safetensors file with a true header and a
    hole where the weights would be."""

    def make(config: dict[str, Any], name: str = "model", dtype: str = "BF16") -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(config))
        write_safetensors(path / "model.safetensors", decoder_tensors(config), dtype)
        return path

    return make


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Below the real bindings, the scripted driver of the stand-in; nothing above notices."""
    driver = scripted_driver()
    path = tmp_path / "scene.json"
    monkeypatch.setenv("PYNVML_SCENE", str(path))
    monkeypatch.setattr(pynvml, "nvmlLib", driver.ScriptedDriver())
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return Scene(path, driver)
