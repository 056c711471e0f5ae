"""Multimodal models: the part that sees, and the tokens that it keeps for the language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.description import Description, as_described, differences
from orchestrator.estimate.estimate import Estimate, estimate
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import GIB
from tests.orchestrator.models_on_disk import QWEN2_7B, MakeModel

#: Towers as published configurations describe them, and the patches and tokens of their largest
#: image as vLLM's processors count them.
QWEN_2_5_VL = {
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "hidden_act": "silu",
}
QWEN_2_VL = {
    "embed_dim": 1280,
    "hidden_size": 3584,
    "mlp_ratio": 4,
    "patch_size": 14,
    "spatial_merge_size": 2,
}
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "image_size": 896, "patch_size": 14}
CLIP = {"hidden_size": 1024, "intermediate_size": 4096, "image_size": 336, "patch_size": 14}
PIXTRAL = {"hidden_size": 1024, "image_size": 1540, "patch_size": 14, "hidden_act": "silu"}
INTERN = {"hidden_size": 1024, "image_size": [448, 448], "patch_size": [14, 14]}


def seeing(
    make_model: MakeModel, vision: dict[str, Any], processor: Any = None, **more: Any
) -> Path:
    path = make_model(QWEN2_7B | {"vision_config": vision} | more)
    if processor is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def needs(path: Path, **engine_args: Any) -> Estimate:
    model = ModelConfig(
        model_path=str(path), max_model_len=8192, max_batch_size=16, engine_args=engine_args
    )
    return estimate(model, "cuda-vllm", read_checkpoint(path), Card("H100", 80 * GIB))


@pytest.mark.parametrize(
    ("vision", "processor", "more", "width", "patches", "tokens"),
    [
        (QWEN_2_5_VL, {"max_pixels": 12_845_056}, {}, 1280, 65536, 16384),
        (QWEN_2_5_VL, {"size": {"longest_edge": 12_845_056}}, {}, 1280, 65536, 16384),
        (QWEN_2_VL, {"size": {"shortest_edge": 3136}}, {}, 1280, 5120, 1280),
        (SIGLIP, None, {"mm_tokens_per_image": 256}, 1152, 4096, 256),
        (CLIP, {"size": {"shortest_edge": 336}}, {}, 1024, 576, 576),
        (PIXTRAL, {"size": {"longest_edge": 1540}}, {"spatial_merge_size": 2}, 1024, 12100, 3025),
        (INTERN, {"size": 448}, {"downsample_ratio": 0.5}, 1024, 1024, 256),
    ],
)
def test_the_largest_image_is_read(
    make_model: MakeModel,
    vision: dict[str, Any],
    processor: Any,
    more: dict[str, Any],
    width: int,
    patches: int,
    tokens: int,
) -> None:
    (tower,) = read_checkpoint(seeing(make_model, vision, processor, **more)).shape.towers
    assert (tower.hidden_size, tower.patches, tower.tokens) == (width, patches, tokens)


def test_the_engines_own_count_of_tokens_wins(make_model: MakeModel) -> None:
    own = read_checkpoint(seeing(make_model, SIGLIP, mm_tokens_per_image=256))
    said = Description(release="0.32.0", media={"image": 128, "video": 512})
    (tower,) = as_described(own, said).shape.towers
    assert (tower.tokens, tower.patches) == (512, 2 * 4096)
    assert "vLLM 0.32.0 makes 512 tokens of an image or video; ew reads 256" in differences(
        own, said
    )


@pytest.mark.parametrize(
    ("media", "limits", "tokens"),
    [
        ({"audio": 20_000}, {}, 20_000),
        ({"audio": 750}, {}, 8192),
        ({"audio": 20_000}, {"audio": 0}, 0),
        ({"audio": 20_000, "video": 30_000}, {"audio": 0}, 30_000),
    ],
)
def test_tokens_of_a_part_that_is_not_read_are_kept_if_the_engine_counts_them(
    make_model: MakeModel, media: dict[str, int], limits: dict[str, int], tokens: int
) -> None:
    own = read_checkpoint(make_model(QWEN2_7B | {"audio_config": {"odd": 1}}))
    said = as_described(own, Description(release="0.32.0", media=media))
    model = ModelConfig(
        model_path=str(own.path),
        max_model_len=8192,
        max_batch_size=16,
        engine_args={"limit_mm_per_prompt": limits},
    )
    found = estimate(model, "cuda-vllm", said, Card("H100", 80 * GIB))
    assert found.part_bytes("encoder cache") == tokens * 3584 * 2


def test_the_encoder_cache_holds_a_step_or_the_largest_image(make_model: MakeModel) -> None:
    path = seeing(make_model, QWEN_2_5_VL, {"max_pixels": 12_845_056})
    assert needs(path).part_bytes("encoder cache") == 16384 * 3584 * 2


def test_a_step_of_the_language_model_is_kept_at_least(make_model: MakeModel) -> None:
    path = seeing(make_model, CLIP)
    assert needs(path).part_bytes("encoder cache") == 8192 * 3584 * 2


def test_a_tower_works_on_as_many_images_as_fit_into_a_step(make_model: MakeModel) -> None:
    found = needs(seeing(make_model, SIGLIP, mm_tokens_per_image=256))
    tower, step = found.part_bytes("vision tower"), found.part_bytes("activations")
    # 8192 tokens are 32 images; without a gate, and in this tower without a compiler.
    a_patch = (3 * 1152 + 2 * 4304 + 3 * 14 * 14) * 2
    assert tower + step == 32 * 4096 * a_patch


def test_what_fits_into_the_activations_takes_nothing_more(make_model: MakeModel) -> None:
    assert needs(seeing(make_model, CLIP)).part_bytes("vision tower") == 0


@pytest.mark.parametrize(
    "args", [{"limit_mm_per_prompt": {"image": 0, "video": 0}}, {"language_model_only": True}]
)
def test_without_images_there_is_nothing_of_it(make_model: MakeModel, args: Any) -> None:
    found = needs(seeing(make_model, SIGLIP, mm_tokens_per_image=256), **args)
    assert found.part_bytes("vision tower") == found.part_bytes("encoder cache") == 0


@pytest.mark.parametrize(
    "unread",
    [
        {"vision_config": {}, "max_pixels": 1},
        {"vision_config": {"hidden_size": {"a": 1}, "patch_size": "x"}},
        {"vision_config": ["odd"]},
        {"audio_config": {"d_model": 1280}},
    ],
)
def test_a_part_that_is_not_understood_is_named_and_no_more(
    make_model: MakeModel, unread: dict[str, Any]
) -> None:
    path = make_model(QWEN2_7B | unread)
    (path / "preprocessor_config.json").write_text('{"size": [1, {}]}')
    found = needs(path)
    assert is_named(found) == bool(unread.get("vision_config") or unread.get("audio_config"))
    assert found.part_bytes("vision tower") == 0


def test_a_part_that_is_understood_is_not_named(make_model: MakeModel) -> None:
    assert not is_named(needs(seeing(make_model, CLIP)))


def is_named(found: Estimate) -> bool:
    return any("sees or hears" in note for note in found.notes)
