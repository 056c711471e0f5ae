"""The places for LoRA adapters: as many and as wide as the worker asks vLLM for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig
from contract.model_files.adapter_json import place_rank, rank_of
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.estimate import Estimate, estimate
from orchestrator.estimate.layers.adapters import AdapterWidths
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import MIB
from tests.orchestrator.models_on_disk import QWEN2_7B, MakeModel, write_safetensors

SMALL = {"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 1000}
SMALL |= {"num_attention_heads": 4, "intermediate_size": 256}


def adapter(directory: Path, **says: Any) -> str:
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps(says))
    return str(directory)


def needs(path: Path, **settings: Any) -> Estimate:
    model = ModelConfig(model_path=str(path), **settings)
    return estimate(model, "cuda-vllm", read_checkpoint(path), Card())


def test_places_are_as_wide_as_the_widest_adapter(tmp_path: Path) -> None:
    narrow = adapter(tmp_path / "narrow", r=8)
    wide = adapter(tmp_path / "wide", r=8, rank_pattern={"mlp.*": 20})
    assert rank_of(tmp_path / "wide") == 20
    # The least of those that vLLM has.
    assert place_rank([narrow, wide]) == 32
    assert place_rank([narrow]) == 8


@pytest.mark.parametrize("says", [{}, {"r": 0}, {"r": "many"}, {"r": 10**9}])
def test_an_adapter_that_does_not_say_counts_as_usual(tmp_path: Path, says: Any) -> None:
    assert place_rank([adapter(tmp_path / "odd", **says)]) == 16
    assert place_rank(["someone/on-a-hub"]) == 16


def test_every_adapter_has_a_place(make_model: MakeModel, tmp_path: Path) -> None:
    path, one = make_model(QWEN2_7B), adapter(tmp_path / "one", r=16)
    part = needs(path, adapters={"a": one}).part_bytes("adapters")
    assert part > 0
    assert needs(path, adapters={"a": one}, adapter_path=one).part_bytes("adapters") == 2 * part
    four = needs(path, adapters={"a": one}, engine_args={"max_loras": 4})
    assert four.part_bytes("adapters") == 4 * part
    assert needs(path).part_bytes("adapters") == 0


def test_tensor_parallelism_divides_one_of_the_two_matrices(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    one, two = (
        needs(path, adapters={"a": "x"}, tensor_parallel_size=gpus).part_bytes("adapters")
        for gpus in (1, 2)
    )
    assert one // 2 < two < one


def test_each_expert_has_them(make_model: MakeModel) -> None:
    experts = {"num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 512}
    dense, sparse = make_model(QWEN2_7B, "dense"), make_model(QWEN2_7B | experts, "sparse")
    # Its headers do not say: only config.json does.
    write_safetensors(sparse / "model.safetensors", {"w": [16, 16]}, "BF16")
    few, many = (
        needs(path, adapters={"a": "x"}).part_bytes("adapters") for path in (dense, sparse)
    )
    expert = 3 * (3584 + 512) * 28 * 16 * 2
    assert many > 64 * expert > few


@pytest.mark.parametrize(
    ("tensors", "whole", "divided"),
    [
        # A projection of each kind: by what comes out, by what goes in.
        ({"self_attn.q_proj.weight": [96, 64]}, 64, 96),
        ({"mlp.down_proj.weight": [64, 256]}, 64, 256),
        # 8 experts, gate and up in one tensor.
        ({"mlp.experts.gate_up_proj": [8, 96, 64]}, 8 * 2 * 64, 8 * 96),
        ({"mlp.experts.down_proj": [8, 64, 48]}, 8 * 64, 8 * 48),
        # Mamba 2 has a matrix for each of its five results, and a convolution.
        ({"mixer.dt_bias": [4], "mixer.in_proj.weight": [300, 64]}, 5 * 64, 300),
        ({"mixer.conv1d.weight": [96, 1, 4], "mixer.A_log": [96, 16]}, 4, 96),
        ({"input_layernorm.weight": [64], "mlp.gate.weight": [8, 64]}, 64, 8),
    ],
)
def test_the_headers_of_the_weights_have_the_projections(
    tmp_path: Path, tensors: dict[str, list[int]], whole: int, divided: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    named = {f"model.layers.{layer}.{name}": tensors[name] for layer in (0, 1) for name in tensors}
    # Parts without adapters.
    named |= {"model.embed_tokens.weight": [1000, 64], "visual.layers.0.q_proj.weight": [64, 64]}
    write_safetensors(tmp_path / "model.safetensors", named, "BF16")
    found = read_checkpoint(tmp_path).shape.adapters
    assert found == AdapterWidths(2 * whole, 2 * divided)


def test_a_family_may_have_places_at_its_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"model_type": "llama"}))
    named = {f"model.layers.{layer}.q_proj.weight": [96, 64] for layer in (0, 1)}
    write_safetensors(tmp_path / "model.safetensors", named, "BF16")
    found = read_checkpoint(tmp_path).shape.adapters
    assert found == AdapterWidths(2 * 64 + 2 * (1000 + 64), 2 * 96)


@pytest.mark.parametrize(
    "tensors",
    [
        # One layer of two.
        {"model.layers.0.q_proj.weight": [96, 64]},
        {"model.layers.0.q_proj.qweight": [12, 64], "model.layers.1.q_proj.weight": [96, 64]},
    ],
)
def test_headers_that_do_not_say_are_left(tmp_path: Path, tensors: dict[str, list[int]]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    write_safetensors(tmp_path / "model.safetensors", tensors, "BF16")
    # Four of attention, three of the MLP, as config.json has them.
    attention, mlp = AdapterWidths(4 * 64, 4 * 64), AdapterWidths(3 * 64, 3 * 256)
    assert read_checkpoint(tmp_path).shape.adapters == (attention + mlp).times(2)


def test_steps_with_and_without_an_adapter_have_graphs_of_their_own(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    plain, adapted = needs(path, max_batch_size=8), needs(path, max_batch_size=8, adapter_path="x")
    # Sizes 1, 2, 4, 8 and 16, of 28 layers.
    records = 5 * 28 * (MIB // 5)
    assert adapted.part_bytes("CUDA graphs") - plain.part_bytes("CUDA graphs") == records
