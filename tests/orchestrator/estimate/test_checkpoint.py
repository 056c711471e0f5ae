"""Reading a model's files, and the errors where they do not say enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.errors import UserError
from orchestrator.estimate import checkpoint as checkpoint_module
from orchestrator.estimate.checkpoint import Checkpoint, ModelNotHere, locate, read_checkpoint
from orchestrator.estimate.layers.kept import CacheLayers
from tests.orchestrator.models_on_disk import (
    QWEN2_7B,
    QWEN2_HALF_B,
    MakeModel,
    decoder_tensors,
    write_safetensors,
)


def parameters(checkpoint: Checkpoint) -> int:
    weights = checkpoint.weights
    return weights.layers.floating + weights.embedding.floating + weights.head.floating


def test_parameters_are_counted_from_the_headers(make_model: MakeModel) -> None:
    assert parameters(read_checkpoint(make_model(QWEN2_7B))) == 7_615_616_512
    assert parameters(read_checkpoint(make_model(QWEN2_HALF_B, "small"))) == 494_032_768


def test_a_tied_head_that_was_exported_all_the_same_does_not_count(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    tensors = decoder_tensors(QWEN2_HALF_B) | {"lm_head.weight": [151936, 896]}
    write_safetensors(path / "model.safetensors", tensors, "BF16")
    assert parameters(read_checkpoint(path)) == 494_032_768


def test_a_checkpoint_in_several_files_is_added_up(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    (path / "model.safetensors").unlink()
    tensors = decoder_tensors(QWEN2_7B)
    weight_map = {}
    for number, half in enumerate(
        (dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2]))
    ):
        name = f"model-{number}.safetensors"
        write_safetensors(path / name, half, "BF16")
        weight_map |= dict.fromkeys(half, name)
    index = {"metadata": {"total_size": 15_231_233_024}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))

    complete = read_checkpoint(path)
    assert (parameters(complete), complete.weights.source) == (7_615_616_512, "safetensors headers")

    (path / "model-1.safetensors").unlink()
    half_there = read_checkpoint(path)
    assert parameters(half_there) == 7_615_616_512
    assert half_there.weights.source == "the index's total size"


def test_old_formats_are_taken_by_their_size(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    (path / "model.safetensors").unlink()
    with (path / "pytorch_model.bin").open("wb") as file:
        file.truncate(1_000_000)
    assert parameters(read_checkpoint(path)) == 500_000


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[x"])
def test_a_damaged_file_is_named(make_model: MakeModel, content: bytes) -> None:
    path = make_model(QWEN2_HALF_B)
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file"):
        read_checkpoint(path)


def test_a_directory_without_weights_is_an_error(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    (path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        read_checkpoint(path)


def test_a_directory_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: No such file"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="does not describe a decoder") as error:
        read_checkpoint(tmp_path)
    assert "gpu_memory_utilization" in error.value.hint


def test_files_are_read_again_when_they_have_changed_and_only_then(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = checkpoint_module.read_weights
    monkeypatch.setattr(
        checkpoint_module,
        "read_weights",
        lambda path, *a, **k: read.append(path) or real(path, *a, **k),
    )
    path = make_model(QWEN2_HALF_B)
    first = read_checkpoint(path)
    assert read_checkpoint(path) is first
    assert read == [path]
    write_safetensors(path / "model.safetensors", {"a.weight": [10, 10]}, "BF16")
    assert parameters(read_checkpoint(path)) == 100
    assert read == [path, path]


def test_a_repository_is_found_in_the_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(UserError) as error:
        locate("Qwen/Qwen2.5-7B-Instruct")
    assert "./ew models pull Qwen/Qwen2.5-7B-Instruct" in error.value.hint

    repository = tmp_path / "hub" / "models--Qwen--Qwen2.5-7B-Instruct"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(ModelNotHere):
        # Its download has just begun.
        locate("Qwen/Qwen2.5-7B-Instruct")
    (snapshot / "model.safetensors").write_text("")
    assert locate("Qwen/Qwen2.5-7B-Instruct") == snapshot


def test_a_path_that_is_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match="neither a directory nor a Hugging Face repository"):
        locate("./models/nowhere/at/all")


def shape_of(make_model: MakeModel, **changes: Any) -> Any:
    return read_checkpoint(make_model(QWEN2_HALF_B | changes, f"m{len(changes)}")).shape


FAMILIES = {
    "multi-query (Falcon)": ({"num_key_value_heads": None, "multi_query": True}, {"kv_heads": 1}),
    "ChatGLM": (
        {"num_key_value_heads": None, "multi_query_attention": True, "multi_query_group_num": 2},
        {"kv_heads": 2},
    ),
    "every head has its own": ({"num_key_value_heads": None}, {"kv_heads": 14}),
    "head size of its own (Qwen3)": ({"head_dim": 128}, {"head_dim": 128}),
    "all layers slide (Mistral)": (
        {"use_sliding_window": None, "sliding_window": 4096},
        {"kept": {"window": 24}},
    ),
    "a window that is not used (Qwen2)": (
        {"use_sliding_window": False},
        {"kept": {"full": 24}},
    ),
    "some layers slide (Qwen2)": (
        {"use_sliding_window": True, "max_window_layers": 20},
        {"kept": {"full": 20, "window": 4}},
    ),
    "a pattern (Gemma 3)": (
        {"use_sliding_window": None, "sliding_window": 512, "sliding_window_pattern": 6},
        {"kept": {"full": 4, "window": 20}},
    ),
    "a list of kinds (gpt-oss)": (
        {
            "use_sliding_window": None,
            "sliding_window": 128,
            "layer_types": ["sliding_attention", "full_attention"] * 12,
        },
        {"kept": {"full": 12, "window": 12}},
    ),
    "recurrent layers (Qwen3-Next)": (
        {"layer_types": ["linear_attention"] * 18 + ["full_attention"] * 6},
        {"kept": {"full": 6, "state": 18}},
    ),
    "latent attention (DeepSeek)": (
        {"kv_lora_rank": 512, "qk_rope_head_dim": 64},
        {"caches": (CacheLayers("full", 24, 1, 576, is_shared=True),)},
    ),
    "experts (Mixtral)": (
        {"num_experts_per_tok": 2},
        {"experts_per_token": 2, "expert_size": 4864},
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_spell_their_shape_differently(make_model: MakeModel, name: str) -> None:
    changes, expected = FAMILIES[name]
    path = make_model(QWEN2_HALF_B)
    (path / "config.json").write_text(json.dumps(QWEN2_HALF_B | changes))
    shape = read_checkpoint(path).shape
    facts = msgspec.structs.asdict(shape) | {
        "kept": {each.kind: each.layers for each in shape.caches}
    }
    assert {key: facts[key] for key in expected} == expected


def test_the_language_model_of_one_that_also_sees_counts(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    config = {"text_config": QWEN2_HALF_B, "hidden_size": 99, "vision_config": {}}
    (path / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(path).shape.hidden_size == 896
