"""Models that hear with an encoder: their decoder looks at all that it has read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.estimate import Estimate, estimate
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.parts import Part, towers_at_work
from orchestrator.estimate.running import Card, running
from orchestrator.terminal.sizes import GIB
from tests.orchestrator.estimate.test_published_models import DEFAULTS
from tests.orchestrator.models_on_disk import write_safetensors

#: Keys and values of a token in one layer, in bytes: 20 heads of 64 elements, in 16 bits.
TOKEN = 2 * 20 * 64 * 2


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(DEFAULTS["whisper-large-v3-turbo"]))
    write_safetensors(tmp_path / "model.safetensors", {"w": [16, 16]}, "F16")
    return tmp_path


def needs(path: Path, sequences: int = 4, **engine_args: Any) -> Estimate:
    args = {"max_num_batched_tokens": 2048, **engine_args}
    model = ModelConfig(model_path=str(path), max_batch_size=sequences, engine_args=args)
    return estimate(model, "cuda-vllm", read_checkpoint(path), Card("H100", 80 * GIB))


def test_the_figures_are_those_of_the_decoder(whisper: Path) -> None:
    shape = read_checkpoint(whisper).shape
    assert (shape.layers, shape.context_len) == (4, 448)
    assert shape.caches == (
        CacheLayers("full", 4, 20, 128),
        CacheLayers("cross", 4, 20, 128, window=1500),
    )


def test_a_step_full_of_the_encoders_tokens_has_room(whisper: Path) -> None:
    # A block more for the engine itself, in each of the two kinds of layers.
    assert needs(whisper).kv_cache.least_bytes == 4 * TOKEN * (448 + 16 + 2048 + 16)


def test_each_further_sequence_keeps_what_was_heard(whisper: Path) -> None:
    cache = needs(whisper, 3).kv_cache
    # 1500 tokens are 94 blocks of 16.
    assert cache.wanted_bytes - cache.least_bytes == 2 * 4 * TOKEN * (448 + 1504)
    assert cache.state_bytes == 4 * TOKEN * 1504
    assert cache.bytes_per_token == 4 * TOKEN


def test_a_step_that_holds_no_sound_is_told_of(whisper: Path) -> None:
    """As vLLM 0.32 says it when it starts."""
    told = "a sound is 1500 tokens and a step has 896, so vLLM does not start"
    model = ModelConfig(model_path=str(whisper), max_batch_size=2)
    found = estimate(model, "cuda-vllm", read_checkpoint(whisper), Card("H100", 80 * GIB))
    assert any(told in note for note in found.notes)
    assert not any("a sound is" in note for note in needs(whisper).notes)


def test_the_encoder_works_on_as_many_sounds_as_fit_into_a_step(whisper: Path) -> None:
    args = {"max_num_batched_tokens": 3000}
    model = ModelConfig(model_path=str(whisper), max_batch_size=4, engine_args=args)
    checkpoint = read_checkpoint(whisper)
    run = running(model, "cuda-vllm", checkpoint, Card("H100", 80 * GIB))
    nothing = Part("activations", 0, "")
    a_place = (3 * 1280 + 2 * 5120 + 2 * 128) * 2
    part = towers_at_work(checkpoint.shape, run, nothing)
    assert (part.name, part.size_bytes) == ("audio tower", 2 * 1500 * a_place)
    deaf = msgspec.structs.replace(run, hears=False)
    assert towers_at_work(checkpoint.shape, deaf, nothing).size_bytes == 0


def test_without_sounds_nothing_is_kept_of_them(whisper: Path) -> None:
    assert needs(whisper).part_bytes("encoder cache") == 2048 * 1280 * 2
    assert needs(whisper, limit_mm_per_prompt={"audio": 0}).part_bytes("encoder cache") == 0
