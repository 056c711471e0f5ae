"""The activations of a step, by the kind of the widest layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.estimate import estimate
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import GIB
from tests.orchestrator.models_on_disk import QWEN2_7B, MakeModel

HIDDEN, INNER = 3584, 18944
#: Tokens of a step on that card, and the allocator's share.
TOKENS, ALLOCATED = 8192, 1.55


def elements(path: Path, **engine_args: Any) -> int:
    """Those of one token, beside the residual and its copies."""
    model = ModelConfig(model_path=str(path), max_batch_size=32, engine_args=engine_args)
    found = estimate(model, "cuda-vllm", read_checkpoint(path), Card("H100", 80 * GIB))
    part = found.part_bytes("activations")
    return round(part / ALLOCATED / TOKENS / 2) - 3 * HIDDEN


def test_a_gated_mlp_has_two_projections_and_their_product(make_model: MakeModel) -> None:
    assert elements(make_model(QWEN2_7B)) == 3 * INNER


def test_the_function_of_one_that_is_not_gated_is_computed_in_place(make_model: MakeModel) -> None:
    by_family = make_model(QWEN2_7B | {"model_type": "falcon"}, "falcon")
    by_function = make_model(QWEN2_7B | {"hidden_act": "relu2"}, "relu2")
    assert elements(by_family) == elements(by_function) == INNER
    # Without torch's inductor, it is not.
    assert elements(by_family, enforce_eager=True) == 2 * INNER


def test_a_recurrent_layer_may_be_the_widest(make_model: MakeModel) -> None:
    # Nemotron-H-8B but for the width of its MLP.
    mamba = {
        "model_type": "nemotron_h",
        "intermediate_size": 64,
        "mamba_num_heads": 128,
        "mamba_head_dim": 64,
        "ssm_state_size": 128,
        "n_groups": 8,
        "chunk_size": 128,
    }
    inner, convolved = 128 * 64, 128 * 64 + 2 * 8 * 128
    projections = (inner + convolved + 128) + convolved + inner
    in_float32 = 2 * inner * 128 // 128 + 8 * 128 + 3 * 128
    assert elements(make_model(QWEN2_7B | mamba, "mamba")) == projections + 2 * in_float32
    # Qwen3-Next's.
    delta = {
        "model_type": "qwen3_next",
        "intermediate_size": 64,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    }
    assert elements(make_model(QWEN2_7B | delta, "delta")) > 2 * (2 * 2048 + 2 * 4096)
