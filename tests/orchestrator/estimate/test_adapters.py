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
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import MIB
from tests.orchestrator.models_on_disk import QWEN2_7B, MakeModel


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
    dense, sparse = (
        needs(make_model(QWEN2_7B | more, name), adapters={"a": "x"}).part_bytes("adapters")
        for name, more in (("dense", {}), ("sparse", experts))
    )
    expert = 3 * (3584 + 512) * 28 * 16 * 2
    assert sparse > 64 * expert > dense


def test_steps_with_and_without_an_adapter_have_graphs_of_their_own(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    plain, adapted = needs(path, max_batch_size=8), needs(path, max_batch_size=8, adapter_path="x")
    # Sizes 1, 2, 4, 8 and 16, of 28 layers.
    records = 5 * 28 * (MIB // 5)
    assert adapted.part_bytes("CUDA graphs") - plain.part_bytes("CUDA graphs") == records
