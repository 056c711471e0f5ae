"""The acceptance on GPUs, as far as it can be tested without one. Its modules are no
package, so they are looked at in a process of their own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig
from contract.paths import ROOT

PROGRAM = ROOT / "scripts" / "programs" / "gpu_acceptance"
LOOK = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from combinations import COMBINATIONS
from load import _requests
models = Path(sys.argv[3])
found = {each.name: [each.entry(models), next(_requests(each))] for each in COMBINATIONS}
print(json.dumps([len(COMBINATIONS), found]))
"""


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of each: its entry in the configuration, and the first request of its load."""
    models = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-c", LOOK, str(PROGRAM), str(ROOT), str(models)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, found = json.loads(done.stdout)
    assert count == len(found), "two combinations have one name"
    return dict(found)


def test_each_combination_is_a_model_that_ew_takes(combinations: dict[str, Any]) -> None:
    for entry, (_, body) in combinations.values():
        model = ModelConfig(**entry)
        assert Path(model.model_path, "config.json").is_file()
        assert "messages" in body or body.get("prompt") or body["input"]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Qwen3-8B-bfloat16-8192-32-tp4", {"disable_custom_all_reduce": True}),
        ("Qwen3-Next-64-experts-bfloat16-8192-16", {"gdn_prefill_backend": "triton"}),
        ("bge-m3-bfloat16-8192-32-embed", {"runner": "pooling"}),
    ],
)
def test_what_a_combination_needs_is_given(
    combinations: dict[str, Any], name: str, keys: dict[str, Any]
) -> None:
    entry, _ = combinations[name]
    assert entry["engine_args"].items() >= keys.items()


def test_a_vision_model_is_asked_about_an_image(combinations: dict[str, Any]) -> None:
    _, (path, body) = combinations["Qwen2.5-VL-7B-bfloat16-8192-16-images1792"]
    assert path == "/v1/chat/completions"
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    kind, _, content = url.partition(";base64,")
    assert kind == "data:image/png"
    image = base64.b64decode(content)
    length = int.from_bytes(image[33:37], "big")
    assert image[37:41] == b"IDAT"
    assert len(zlib.decompress(image[41 : 41 + length])) == 1792 * (1 + 3 * 1792)


def test_an_unknown_combination_is_named_beside_those_that_are_known(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "estimate", "--mock", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--only", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nope; known are" in done.stdout
    assert "Qwen3-8B-bfloat16-8192-32-tp2" in done.stdout
