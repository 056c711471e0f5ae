"""Families that write their figures in ways of their own. vLLM 0.32 has said what is expected
here of the same configurations (test_published_models.py asks it)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.model_json import ModelJson, read_config
from orchestrator.estimate.shape import Shape, read_shape
from tests.orchestrator.estimate.test_published_models import DEFAULTS


def shape_of(tmp_path: Path, family: str) -> Shape:
    (tmp_path / "config.json").write_text(json.dumps(DEFAULTS[family]))
    config = read_config(tmp_path)
    assert isinstance(config, ModelJson)
    return read_shape(tmp_path, config, "0.32.0")


@pytest.mark.parametrize(
    ("family", "state_bytes", "layers"),
    [
        # The inputs of a convolution, and 16 (128) figures for each channel, in float32.
        ("falcon_mamba", 3 * 1536 * 2 + 1536 * 16 * 4, 32),
        ("mamba2", 3 * (8192 + 2 * 8 * 128) * 2 + 8192 * 128 * 4, 64),
    ],
)
def test_models_of_recurrent_layers_alone_have_no_heads(
    tmp_path: Path, family: str, state_bytes: int, layers: int
) -> None:
    found = shape_of(tmp_path, family)
    assert found.caches == (CacheLayers("state", layers, state_bytes=state_bytes),)


def test_layers_may_have_heads_of_their_own_one_by_one(tmp_path: Path) -> None:
    assert {
        (each.kind, each.layers, each.heads, each.elements)
        for each in shape_of(tmp_path, "gemma4_text").caches
    } == {("full", 5, 4, 1024), ("window", 25, 4, 512)}


def test_the_window_of_cohere_is_beside_the_token(tmp_path: Path) -> None:
    window = next(each for each in shape_of(tmp_path, "cohere2").caches if each.kind == "window")
    assert window.window == 4097


def test_the_thinker_of_an_omni_model_is_read(tmp_path: Path) -> None:
    assert shape_of(tmp_path, "qwen2_5_omni").count("full") == 28


def test_a_decoder_that_reads_its_prompt_in_both_directions_keeps_it(tmp_path: Path) -> None:
    assert shape_of(tmp_path, "paligemma").count("full") == 18
    assert shape_of(tmp_path, "siglip").caches == ()


def test_which_layers_attend_or_have_a_window_may_be_numbered(tmp_path: Path) -> None:
    lfm = shape_of(tmp_path, "LFM2-1.2B")
    assert (lfm.count("full"), lfm.count("state")) == (6, 10)
    mimo = shape_of(tmp_path, "MiMo-V2-Flash")
    assert (mimo.count("full"), mimo.count("window")) == (9, 39)


def test_a_block_of_longcat_attends_twice(tmp_path: Path) -> None:
    config = {"architectures": ["LongcatFlashForCausalLM"], "num_layers": 28, "hidden_size": 6144}
    config |= {"num_attention_heads": 64, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    for said in ({}, {"num_hidden_layers": 56}):
        (tmp_path / "config.json").write_text(json.dumps(config | said))
        read = read_config(tmp_path)
        assert isinstance(read, ModelJson)
        assert read_shape(tmp_path, read, "0.32.0").count("full") == 56


def test_figures_may_lie_in_sections_for_parts_of_a_layer(tmp_path: Path) -> None:
    found = shape_of(tmp_path, "DBRX")
    assert found.caches == (CacheLayers("full", 40, 8, 256),)
    assert (found.experts_per_token, found.expert_size) == (4, 10752)


def test_recurrent_layers_may_have_the_heads_of_the_others(tmp_path: Path) -> None:
    latent, states = shape_of(tmp_path, "Bailing-V3-VL").caches
    assert (latent.layers, latent.elements) == (4, 576)
    # The inputs of three short convolutions, and a matrix for each of 16 heads in float32.
    assert (states.layers, states.state_bytes) == (16, 3 * 3 * 2048 * 2 + 16 * 128 * 128 * 4)


@pytest.mark.parametrize(("layers", "kernel", "full"), [(10, 4, 4), (10, None, 2), (8, 4, 2)])
def test_the_last_layer_of_a_group_attends(
    tmp_path: Path, layers: int, kernel: int | None, full: int
) -> None:
    """With short convolutions those of no whole group, too (Bailing V3; not V2.5)."""
    config = {"model_type": "bailing_hybrid", "hidden_size": 64, "num_attention_heads": 4}
    config |= {"num_hidden_layers": layers, "layer_group_size": 4, "head_dim": 16}
    (tmp_path / "config.json").write_text(json.dumps(config | {"short_conv_kernel_size": kernel}))
    read = read_config(tmp_path)
    assert isinstance(read, ModelJson)
    shape = read_shape(tmp_path, read, "0.32.0")
    assert (shape.count("full"), shape.count("state")) == (full, layers - full)


def test_a_model_within_another_is_read(tmp_path: Path) -> None:
    """ColPali, as transformers saves it; vLLM 0.33 has said the numbers."""
    text = {"model_type": "gemma", "hidden_size": 2048, "num_hidden_layers": 18, "head_dim": 256}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 1, "max_position_embeddings": 8192}
    model = {"model_type": "paligemma", "text_config": text, "vision_config": {"patch_size": 14}}
    config = {"model_type": "colpali", "embedding_dim": 128, "vlm_config": model}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(tmp_path)
    assert isinstance(read, ModelJson)
    shape = read_shape(tmp_path, read, "0.33.0")
    assert (shape.caches, shape.context_len) == ((CacheLayers("full", 18, 1, 512),), 8192)


def test_layers_that_compress_are_named_by_their_type(tmp_path: Path) -> None:
    """DeepSeek V4 as transformers saves it has the same layers as it was published with; where a
    file has both, the types count (vLLM 0.33)."""
    published = DEFAULTS["DeepSeek-V4"]
    names = {0: "sliding_attention", 4: "compressed_sparse_attention"}
    names[128] = "heavily_compressed_attention"
    saved = {key: value for key, value in published.items() if key != "compress_ratios"}
    saved["layer_types"] = [names[each] for each in published["compress_ratios"]]
    saved["compress_rates"] = {names[4]: 4, names[128]: 128}
    read = []
    for config in (published, saved, saved | {"compress_ratios": [0] * 43}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        found = read_config(tmp_path)
        assert isinstance(found, ModelJson)
        read.append(read_shape(tmp_path, found, "0.33.0"))
    assert read[0] == read[1] == read[2]
    assert read[1].indexer is not None
    assert read[1].indexer.every == 4


def test_layers_that_predict_are_named_after_the_models_own(tmp_path: Path) -> None:
    """Step 3.5: three of its eleven layer types are of such; vLLM 0.32 has said the numbers."""
    kinds = ["full_attention", *["sliding_attention"] * 3] * 3
    other = {"attention_type": "sliding_attention", "num_attention_groups": 4, "head_dim": 32}
    config = {"model_type": "step3p5", "hidden_size": 512, "num_hidden_layers": 8}
    config |= {"num_attention_heads": 8, "num_attention_groups": 2, "head_dim": 64}
    config |= {"layer_types": kinds[:11], "sliding_window": 512, "attention_other_setting": other}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(tmp_path)
    assert isinstance(read, ModelJson)
    assert read_shape(tmp_path, read, "0.33.0").caches == (
        CacheLayers("full", 2, 2, 128),
        CacheLayers("window", 6, 4, 64, window=512),
    )


def test_parts_of_layers_may_be_more_than_layers(tmp_path: Path) -> None:
    """Cosmos 3 Edge, as vLLM's own class of its configuration has it; vLLM 0.32 has said it."""
    text = {"model_type": "cosmos3_edge_text", "hidden_size": 2048, "num_hidden_layers": 28}
    text |= {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    text |= {"layers_block_type": ["full_attention", "mlp"] * 28}
    config = {"model_type": "cosmos3_edge", "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(tmp_path)
    assert isinstance(read, ModelJson)
    assert read_shape(tmp_path, read, "0.33.0").caches == (CacheLayers("full", 28, 8, 256),)


def test_layers_that_convolve_keep_a_window_of_what_goes_in(tmp_path: Path) -> None:
    """Inkling, as published and as transformers 5.24 saves it; vLLM 0.33 has said the numbers."""
    text = {"model_type": "inkling_text", "hidden_size": 6144, "num_hidden_layers": 12}
    text |= {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128}
    text |= {"swa_num_key_value_heads": 16, "swa_head_dim": 128, "sliding_window_size": 512}
    text |= {"local_layer_ids": [0, 1, 2, 3, 4, 6, 7, 8, 9, 10], "sconv_kernel_size": 4}
    kinds = [*["hybrid_sliding"] * 5, "hybrid"] * 2
    for said in ({}, {"layer_types": kinds, "conv_kernel_size": 4, "sconv_kernel_size": None}):
        config = {"model_type": "inkling_mm_model", "text_config": text | said}
        (tmp_path / "config.json").write_text(json.dumps(config))
        read = read_config(tmp_path)
        assert isinstance(read, ModelJson)
        assert read_shape(tmp_path, read, "0.33.0").caches == (
            CacheLayers("full", 2, 8, 256),
            CacheLayers("window", 10, 16, 256, window=512),
            CacheLayers("window", 12, window=4, fixed_bytes=32_768),
        )


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"model_type": "unlimited_ocr_text"}, ("full", 2)),
        ({"model_type": "ultrabert"}, None),
    ],
)
def test_a_window_of_what_is_generated_alone_is_none(
    tmp_path: Path, changes: dict[str, str], kept: tuple[str, int] | None
) -> None:
    config = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    config |= {"layer_types": ["reference_sliding_attention"] * 2, "sliding_window": 128}
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    read = read_config(tmp_path)
    assert isinstance(read, ModelJson)
    found = [(each.kind, each.layers) for each in read_shape(tmp_path, read, "0.33.0").caches]
    assert found == ([kept] if kept else [])
