"""Models whose layers run several times for each token, and keep what they read each time. vLLM
0.33 has said what is expected here of the same configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from orchestrator.estimate.model_json import ModelJson, read_config
from orchestrator.estimate.shape import read_shape

SIZES: Final = {"hidden_size": 64, "num_attention_heads": 4, "head_dim": 16}
#: Attention and MLP are layers of their own; those between the first and the last four loop.
DORY: Final = SIZES | {
    "model_type": "dory",
    "num_hidden_layers": 16,
    "layer_types": ["sliding_attention", "mlp", "full_attention", "mlp"] * 4,
    "sliding_window": 1024,
    "n_input_layers": 4,
    "n_output_layers": 4,
    "n_recurrent_loops": 3,
}
#: In its older form, and (with `num_layers_per_stack`) as transformers saves it.
HRM: Final = SIZES | {"model_type": "hrm_text", "H_cycles": 2, "L_cycles": 3}
CODER: Final = SIZES | {"architectures": ["IQuestLoopCoderForCausalLM"], "num_hidden_layers": 8}


def caches(tmp_path: Path, config: dict[str, Any]) -> set[tuple[str, int, int]]:
    """Return the kinds of layers, with their number and their window."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(tmp_path)
    assert isinstance(read, ModelJson)
    found = read_shape(tmp_path, read, "0.33.0").caches
    return {(each.kind, each.layers, each.window) for each in found}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DORY, {("full", 8, 0), ("window", 8, 1024)}),
        (DORY | {"recurrent_kv_cache_mode": "last_loop"}, {("full", 4, 0), ("window", 4, 1024)}),
        (DORY | {"n_recurrent_loops": 1}, {("full", 4, 0), ("window", 4, 1024)}),
        (HRM | {"num_hidden_layers": 16}, {("full", 128, 0)}),
        (HRM | {"num_hidden_layers": 128, "num_layers_per_stack": 16}, {("full", 128, 0)}),
        (CODER, {("full", 8, 0), ("window", 8, 64)}),
        (CODER | {"loop_num": 3, "loop_window_size": 32}, {("full", 8, 0), ("window", 16, 32)}),
    ],
)
def test_a_layer_keeps_what_it_reads_each_time_that_it_runs(
    tmp_path: Path, config: dict[str, Any], expected: set[tuple[str, int, int]]
) -> None:
    assert caches(tmp_path, config) == expected
