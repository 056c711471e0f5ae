"""Sparse attention: the keys by which an indexer finds what latent attention looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.estimate import estimate
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.running import Card
from orchestrator.estimate.speculation import Speculation
from tests.orchestrator.models_on_disk import QWEN2_HALF_B, MakeModel

#: The config.json of DeepSeek V3.2 and of GLM 5, as far as it decides a cache.
SPARSE: Final = QWEN2_HALF_B | {
    "model_type": "deepseek_v32",
    "num_hidden_layers": 61,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "index_head_dim": 128,
    "num_nextn_predict_layers": 1,
}
LATENT_BYTES, PACKED_BYTES, INDEX_BYTES = 576 * 2, 656, 132


def written(make_model: MakeModel, changes: dict[str, Any]) -> Path:
    path = make_model(QWEN2_HALF_B)
    (path / "config.json").write_text(json.dumps(SPARSE | changes))
    return path


def per_token(path: Path, speculation: Speculation | None = None, **args: Any) -> int:
    model = ModelConfig(model_path=str(path), engine_args=args)
    found = estimate(
        model, "cuda-vllm", read_checkpoint(path), Card(), speculation or Speculation()
    )
    return found.kv_cache.bytes_per_token


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, 61),
        ({"index_topk_freq": 4}, 16),
        ({"index_topk_freq": 4, "index_skip_topk_offset": 0}, 15),
        ({"index_topk_pattern": "FSSS" * 15 + "F"}, 16),
        ({"layer_types": ["indexed_attention"] * 61}, 61),
    ],
)
def test_layers_with_an_indexer_keep_its_keys(
    make_model: MakeModel, changes: dict[str, Any], layers: int
) -> None:
    latent, index = read_checkpoint(written(make_model, changes)).shape.caches
    assert (latent.kind, latent.layers, latent.elements) == ("full", 61, 576)
    assert index == CacheLayers("full", layers, is_shared=True, fixed_bytes=INDEX_BYTES)


@pytest.mark.parametrize(
    ("changes", "layers", "key"),
    [
        (
            {
                "model_type": "hy_v4",
                "layer_types": ["full_attention"] + ["sparse_attention"] * 60,
                "indexer_types": ["full", "full", "shared", "shared"] + ["full"] * 57,
            },
            58,
            INDEX_BYTES,
        ),
        (
            {
                "kv_lora_rank": None,
                "index_head_dim": None,
                "sparse_attention_config": {
                    "sparse_attention_freq": [0, 0, 0] + [1] * 58,
                    "sparse_index_dim": 128,
                },
            },
            58,
            256,
        ),
    ],
)
def test_families_say_in_their_own_way_which_layers_have_one(
    make_model: MakeModel, changes: dict[str, Any], layers: int, key: int
) -> None:
    _, index = read_checkpoint(written(make_model, changes)).shape.caches
    assert (index.layers, index.fixed_bytes) == (layers, key)


def test_a_cache_in_eight_bits_keeps_scales_and_positions_as_they_are(
    make_model: MakeModel,
) -> None:
    path = written(make_model, {})
    assert per_token(path) == 61 * (LATENT_BYTES + INDEX_BYTES)
    assert per_token(path, kv_cache_dtype="fp8") == 61 * (PACKED_BYTES + INDEX_BYTES)


def test_a_layer_that_predicts_has_an_indexer_too(make_model: MakeModel) -> None:
    path = written(make_model, {})
    guesses = Speculation(1, is_predicted=True)
    assert per_token(path, guesses) == 62 * (LATENT_BYTES + INDEX_BYTES)
