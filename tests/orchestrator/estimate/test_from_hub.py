"""`ew estimate` of a model that is yet to be downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.paths import state_dir
from tests.orchestrator.conftest import Host
from tests.orchestrator.models_on_disk import (
    QWEN2_HALF_B,
    decoder_tensors,
    write_safetensors,
)
from tests.orchestrator.terminal import Terminal
from tests.standins.hub import Hub, Repository, running_hub

REPO = "Team/Small"
CONFIG = QWEN2_HALF_B | {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 4096,
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def terminal(host: Host, terminal: Terminal, hub: Hub, tmp_path: Path) -> Terminal:
    terminal.environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    terminal.configure()
    return terminal


def checkpoint(directory: Path, parts: int) -> dict[str, bytes]:
    """Return the files of a model with weights in so many parts."""
    tensors = decoder_tensors(CONFIG)
    names = sorted(tensors)
    files = {"config.json": json.dumps(CONFIG).encode(), "README.md": b"hi"}
    weight_map = {}
    for part in range(parts):
        file = f"model-{part:05}.safetensors" if parts > 1 else "model.safetensors"
        mine = {name: tensors[name] for name in names[part::parts]}
        write_safetensors(directory / "part", mine, "BF16")
        files[file] = (directory / "part").read_bytes()
        weight_map |= dict.fromkeys(mine, file)
    if parts > 1:
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        files["model.safetensors.index.json"] = json.dumps(index).encode()
    return files


def estimate(terminal: Terminal, *arguments: str) -> Any:
    result = terminal.run("estimate", *arguments, "--on", "1x80", "--json")
    assert result.code == 0, result
    return json.loads(result.out)["models"][0]


@pytest.mark.parametrize("parts", [1, 3])
def test_it_says_the_same_before_the_download_and_after(
    terminal: Terminal, hub: Hub, tmp_path: Path, parts: int
) -> None:
    hub.repositories[REPO] = Repository(checkpoint(tmp_path, parts))
    before = estimate(terminal, REPO)
    assert (before["error"], before["placed"][0]["model"]) == ("", REPO)
    weights = [each for each in before["parts"] if each["name"] == "weights"]
    assert "safetensors headers" in weights[0]["how"]
    large = [span for method, path, span in hub.requests if path.endswith(".safetensors") and span]
    assert set(large) == {"bytes=0-100000"}
    assert not (tmp_path / "hf/hub").exists()
    outline = state_dir() / "outlines/Team--Small"
    assert sum(path.stat().st_size for path in outline.glob("*.safetensors")) > 500_000
    assert sum(path.stat().st_blocks * 512 for path in outline.glob("*")) < 100_000
    assert terminal.run("models", "pull", REPO).code == 0
    assert estimate(terminal, REPO)["parts"] == before["parts"]


def test_older_weights_are_taken_by_their_size(
    terminal: Terminal, hub: Hub, tmp_path: Path
) -> None:
    files = {"config.json": json.dumps(CONFIG).encode(), "pytorch_model.bin": b"x" * 2_000_000}
    hub.repositories[REPO] = Repository(files)
    found = estimate(terminal, REPO)
    assert [each["size_bytes"] for each in found["parts"] if each["name"] == "weights"] == [
        2_000_000
    ]
    assert not any(path.endswith(".bin") and "resolve" in path for _, path, _ in hub.requests)


def test_a_configured_model_and_one_that_cannot_be_asked_for(
    terminal: Terminal, hub: Hub, tmp_path: Path
) -> None:
    hub.repositories[REPO] = Repository(checkpoint(tmp_path, 1))
    terminal.configure(
        small={"engine": "cuda-vllm", "model_path": REPO, "max_model_len": 128},
        lost={"engine": "cuda-vllm", "model_path": "Team/Lost"},
    )
    result = terminal.run("estimate", "--on", "1x80")
    assert result.code == 1
    assert "Team/Lost: http" in result.err
    assert "has no model Team/Lost" in result.err
    assert "small (cuda-vllm)\n  weights" in result.out
    assert "lost (cuda-vllm)\n  not known: `Team/Lost` is not on this host" in result.out
    alone = terminal.run("estimate", "Team/Nothing", "--on", "1x80")
    assert (alone.code, alone.out) == (1, "")
    assert "error: http" in alone.err
    assert [path.name for path in (terminal.state / "outlines").iterdir()] == ["Team--Small"]


def test_a_speculator_brings_the_model_that_it_guesses_for(
    terminal: Terminal, hub: Hub, tmp_path: Path
) -> None:
    hub.repositories[REPO] = Repository(checkpoint(tmp_path, 1))
    said = {"verifier": {"name_or_path": REPO}, "proposal_methods": [{"speculative_tokens": 3}]}
    config = {"speculators_config": said, "transformer_layer_config": CONFIG}
    head = checkpoint(tmp_path, 1) | {"config.json": json.dumps(config).encode()}
    hub.repositories["Team/Head"] = Repository(head)
    found = estimate(terminal, "Team/Head")
    assert found["error"] == ""
    assert {"weights", "draft model"} <= {each["name"] for each in found["parts"]}
    alone = estimate(terminal, REPO)
    assert found["kv_cache"]["bytes_per_token"] == 2 * alone["kv_cache"]["bytes_per_token"]
