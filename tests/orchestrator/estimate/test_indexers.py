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
from tests.orchestrator.estimate.test_published_models import DEFAULTS
from tests.orchestrator.models_on_disk import QWEN2_HALF_B, MakeModel, write_safetensors

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


def test_a_cache_in_four_bits_has_scales_and_positions_of_a_byte(make_model: MakeModel) -> None:
    """`nvfp4_ds_mla` of vLLM 0.33: 256 bytes, 32 scales and 64 positions."""
    size = per_token(written(make_model, {}), kv_cache_dtype="nvfp4_ds_mla")
    assert size == 61 * (352 + INDEX_BYTES)


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


#: DeepSeek V3.2 as a whole model: `FlashMLASparseImpl` and `get_max_prefill_buffer_size` of vLLM
#: 0.32 say in comments what their workspaces take with its context.
V_3_2: Final = {"index_topk": 2048, "max_position_embeddings": 163_840, "num_attention_heads": 128}
GATHERED_KEYS: Final = 865_075_200
GATHERED_LATENTS: Final = 5 * 163_840 * 576 * 2
STEP: Final = 8192


def workspace(path: Path, **args: Any) -> int:
    engine_args = {"max_num_batched_tokens": STEP, **args}
    model = ModelConfig(model_path=str(path), engine_args=engine_args)
    found = estimate(model, "cuda-vllm", read_checkpoint(path), Card())
    return found.part_bytes("indexer")


def test_an_indexer_gathers_keys_of_five_contexts(make_model: MakeModel) -> None:
    path = written(make_model, V_3_2)
    # Or the queries of a step, which are more here: 128 heads.
    queries = STEP * 128 * 576 * 2
    assert workspace(path) == max(GATHERED_KEYS + 2**20, queries) + STEP * 2048 * 4
    assert workspace(path, tensor_parallel_size=8) == GATHERED_KEYS + 2**20 + STEP * 2048 * 4


def test_beside_a_packed_cache_its_entries_are_unpacked(make_model: MakeModel) -> None:
    path = written(make_model, V_3_2)
    # 16 heads on each GPU, of which the kernel makes 64.
    a_token = 16 * 576 + 64 * 576 + 64 * 512 + 16 * 512
    expected = GATHERED_LATENTS + STEP * a_token * 2 + STEP * 2048 * 4
    assert workspace(path, tensor_parallel_size=8, kv_cache_dtype="fp8") == expected


def test_of_longer_contexts_two_are_gathered(make_model: MakeModel) -> None:
    path = written(make_model, V_3_2 | {"max_position_embeddings": 2**20})
    keys = 2 * 2**20 * 8 * 132 + 2**20
    assert workspace(path, tensor_parallel_size=8) == keys + STEP * 2048 * 4


def test_compressed_entries_of_four_prompts_are_gathered(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(DEFAULTS["DeepSeek-V4"]))
    write_safetensors(tmp_path / "model.safetensors", {"w": [16, 16]}, "BF16")
    entries = 4 * (2**20 // 4 + 128 + STEP) * 512 * 2
    # 512 of them and the window of 128 for each token, and how many these are.
    chosen = STEP * (640 + 1) * 4
    assert workspace(tmp_path) == entries + chosen + STEP * 512 * 4


@pytest.mark.parametrize("changes", [{}, V_3_2 | {"index_head_dim": None}])
def test_without_an_indexer_nothing_is_gathered(
    make_model: MakeModel, changes: dict[str, Any]
) -> None:
    assert workspace(written(make_model, changes)) == 0
