"""Speculative decoding: what guesses is part of the estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import ModelNotHere
from orchestrator.estimate.estimate import Estimate, estimate_model
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import MIB
from tests.orchestrator.models_on_disk import (
    QWEN2_7B,
    QWEN2_HALF_B,
    MakeModel,
    decoder_tensors,
    write_safetensors,
)

H200 = Card("NVIDIA H200", 143771 * MIB)
#: Bytes of a token in the caches of the 7B and of the 0.5B shape.
TOKEN_7B, TOKEN_HALF_B = 57_344, 12_288
#: Another layer of the 7B shape: 233 million elements.
LAYER_BYTES = 466_112_512


def estimate_of(path: Path, speculation: dict[str, Any] | None = None) -> Estimate:
    args = {} if speculation is None else {"speculative_config": speculation}
    model = ModelConfig(
        model_path=str(path),
        engine="cuda-vllm",
        max_model_len=4096,
        max_batch_size=8,
        engine_args=args,
    )
    found = estimate_model(model, "cuda-vllm", H200)
    assert found is not None
    return found


def with_predictor(path: Path, name: str) -> Path:
    """Add a layer that predicts tokens to a model of the 7B shape."""
    layer = {
        tensor.replace("model.layers.0.", name): shape
        for tensor, shape in decoder_tensors(QWEN2_7B).items()
        if tensor.startswith("model.layers.0.")
    }
    write_safetensors(path / "predictor.safetensors", layer, "BF16")
    return path


def test_a_draft_model_has_weights_and_layers_in_the_same_cache(make_model: MakeModel) -> None:
    target, draft = make_model(QWEN2_7B), make_model(QWEN2_HALF_B, "draft")
    alone, both = (
        estimate_of(target),
        estimate_of(target, {"model": str(draft), "method": "eagle3"}),
    )
    assert both.part_bytes("weights") == alone.part_bytes("weights")
    drafts = estimate_of(draft).part_bytes("weights")
    assert drafts <= both.part_bytes("draft model") <= drafts + 128 * MIB
    assert both.kv_cache.bytes_per_token == TOKEN_7B + TOKEN_HALF_B
    assert not [note for note in both.notes if "draft" in note]


@pytest.mark.parametrize("name", ["mtp.layers.0.", "model.layers.28.", "model.mtp.layers.0."])
def test_layers_that_predict_count_only_where_they_guess(make_model: MakeModel, name: str) -> None:
    plain = estimate_of(make_model(QWEN2_7B))
    path = with_predictor(make_model(QWEN2_7B, "predicting"), name)
    assert estimate_of(path).part_bytes("weights") == plain.part_bytes("weights")
    guessing = estimate_of(path, {"method": "mtp", "num_speculative_tokens": 1})
    added = guessing.part_bytes("weights") - plain.part_bytes("weights")
    assert added == pytest.approx(LAYER_BYTES, rel=0.001)
    assert guessing.kv_cache.bytes_per_token == TOKEN_7B * 29 // 28


def test_guesses_from_the_text_take_no_model(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    plain, guessing = estimate_of(path), estimate_of(path, {"method": "ngram"})
    assert guessing == plain


def test_the_sampler_has_a_row_for_each_guess(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    plain = estimate_of(path).part_bytes("activations")
    guessing = estimate_of(path, {"method": "ngram", "num_speculative_tokens": 15})
    rows = 8 * 16
    assert guessing.part_bytes("activations") == rows * 151_936 * 34 > plain


def test_a_draft_model_that_is_not_here_is_named(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    found = estimate_of(path, {"model": "some/draft", "num_speculative_tokens": 2})
    assert [note for note in found.notes if "some/draft" in note and "not counted" in note]
    nameless = estimate_of(path, {"method": "eagle"})
    assert [note for note in nameless.notes if "names no draft `model`" in note]


def test_a_file_that_is_no_draft_model_is_named(make_model: MakeModel, tmp_path: Path) -> None:
    head = tmp_path / "head"
    head.mkdir()
    (head / "config.json").write_text(json.dumps({"model_type": "medusa"}))
    write_safetensors(head / "model.safetensors", {"w": [8, 8]}, "BF16")
    found = estimate_of(make_model(QWEN2_7B), {"model": str(head), "method": "medusa"})
    assert [note for note in found.notes if "not counted" in note and "head" in note]


def speculator(directory: Path, target: str, tokens: int = 5) -> Path:
    """An EAGLE-3 head as speculators 0.9 saves it, with its shape in a section of its own."""
    directory.mkdir()
    section = QWEN2_HALF_B | {"num_hidden_layers": 1, "model_type": "llama"}
    proposals = [{"proposal_type": "greedy", "speculative_tokens": tokens}]
    verifier = {"name_or_path": target, "architectures": ["Qwen2ForCausalLM"]}
    config = {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "speculators_config": {"proposal_methods": proposals, "verifier": verifier},
        "transformer_layer_config": section,
    }
    (directory / "config.json").write_text(json.dumps(config))
    tensors = decoder_tensors(QWEN2_HALF_B | {"num_hidden_layers": 1})
    write_safetensors(directory / "model.safetensors", tensors, "BF16")
    return directory


def test_a_speculator_is_served_with_the_model_that_it_guesses_for(
    make_model: MakeModel, tmp_path: Path
) -> None:
    target = make_model(QWEN2_7B)
    head = speculator(tmp_path / "head", str(target))
    by_itself = estimate_of(head)
    named = estimate_of(
        target, {"method": "eagle3", "model": str(head), "num_speculative_tokens": 5}
    )
    assert by_itself.parts == named.parts
    assert by_itself.kv_cache == named.kv_cache
    # The head's one layer keeps the same tokens as the model.
    assert by_itself.kv_cache.bytes_per_token == TOKEN_7B + TOKEN_HALF_B // 24
    more = estimate_of(head, {"num_speculative_tokens": 4000 // 8})
    assert more.part_bytes("activations") > by_itself.part_bytes("activations")


def test_a_speculator_of_a_model_that_is_not_here_names_that_one(tmp_path: Path) -> None:
    head = speculator(tmp_path / "head", "nobody/nothing")
    with pytest.raises(ModelNotHere, match="`nobody/nothing` is not on this host"):
        estimate_of(head)
