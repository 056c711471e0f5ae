"""Models whose language model and encoder are in repositories of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import ModelNotHere, read_checkpoint
from tests.orchestrator.models_on_disk import QWEN2_HALF_B, MakeModel, write_safetensors

JOINING: dict[str, Any] = {
    "architectures": ["UltravoxModel"],
    "model_type": "ultravox",
    "dtype": "bfloat16",
    "hidden_size": 4096,
    "stack_factor": 8,
}
WHISPER = {"model_type": "whisper", "d_model": 1280, "encoder_ffn_dim": 5120}
WHISPER |= {"max_source_positions": 1500, "num_mel_bins": 128}


def joining(directory: Path, **named: str) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(JOINING | named))
    tensors = {"multi_modal_projector.linear_1.weight": [64, 32]}
    write_safetensors(directory / "model.safetensors", tensors, "BF16")
    return directory


def hearing(directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(WHISPER))
    tensors = {"model.encoder.w": [128, 16], "model.decoder.w": [4096, 16]}
    write_safetensors(directory / "model.safetensors", tensors, "BF16")
    return directory


def test_the_parts_count_as_one_model(make_model: MakeModel, tmp_path: Path) -> None:
    text = make_model(QWEN2_HALF_B)
    heard = hearing(tmp_path / "whisper")
    path = joining(tmp_path / "whole", text_model_id=str(text), audio_model_id=str(heard))
    found, alone = read_checkpoint(path), read_checkpoint(text)
    assert found.shape.caches == alone.shape.caches
    assert found.shape.context_len == alone.shape.context_len
    # The part that joins them, the language model, and the encoder without its decoder.
    assert found.weights.layers.floating == alone.weights.layers.floating + 64 * 32 + 128 * 16
    assert found.weights.embedding == alone.weights.embedding
    (tower,) = found.shape.towers
    # Eight places of the encoder are one token.
    assert (tower.hears, tower.hidden_size, tower.patches, tower.tokens) == (True, 1280, 1500, 188)
    assert not found.shape.has_unread_part


def test_a_language_model_that_is_not_here_is_named(tmp_path: Path) -> None:
    path = joining(tmp_path / "whole", text_model_id="nobody/nothing")
    with pytest.raises(ModelNotHere, match="`nobody/nothing` is not on this host"):
        read_checkpoint(path)


def test_a_model_that_names_itself_is_an_error_and_no_loop(tmp_path: Path) -> None:
    path = joining(tmp_path / "whole", text_model_id=str(tmp_path / "whole"))
    with pytest.raises(UserError, match="is no checkpoint of its own"):
        read_checkpoint(path)
