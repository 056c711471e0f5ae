"""Models of embeddings: those that read in both directions keep nothing of what they read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.description import Description, Question, as_described
from orchestrator.estimate.estimate import estimate
from orchestrator.estimate.running import Card
from tests.orchestrator.models_on_disk import QWEN2_7B, QWEN2_HALF_B, MakeModel


@pytest.mark.parametrize(
    "says",
    [
        {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]},
        {"model_type": "modernbert"},
        {"is_causal": False},
        {"model_type": "gemma3_text", "use_bidirectional_attention": True},
        {"model_type": "llama_bidirec", "architectures": ["LlamaBidirectionalModel"]},
    ],
)
def test_an_encoder_gets_no_cache(make_model: MakeModel, says: dict[str, Any]) -> None:
    checkpoint = read_checkpoint(make_model(QWEN2_HALF_B | says))
    model = ModelConfig(model_path=str(checkpoint.path), max_batch_size=8)
    found = estimate(model, "cuda-vllm", checkpoint, Card())
    assert found.kv_cache.least_bytes == found.kv_cache.wanted_bytes == 0
    assert found.least_bytes == found.fixed_bytes > 0


@pytest.mark.parametrize(
    "says",
    [{}, {"is_causal": True}, {"use_bidirectional_attention": "vision"}, {"architectures": ["X"]}],
)
def test_a_decoder_gets_one(make_model: MakeModel, says: dict[str, Any]) -> None:
    assert read_checkpoint(make_model(QWEN2_HALF_B | says)).shape.caches


def test_that_the_engine_finds_no_layers_that_keep_anything_counts(make_model: MakeModel) -> None:
    own = read_checkpoint(make_model(QWEN2_HALF_B))
    silent = Description(release="0.32.0", context_len=512)
    assert as_described(own, silent).shape.caches == ()
    broken = msgspec.structs.replace(silent, error="it cannot be built")
    assert as_described(own, broken).shape.caches == own.shape.caches


def test_the_same_files_run_in_another_way_are_another_question(make_model: MakeModel) -> None:
    path = str(make_model(QWEN2_HALF_B))
    pooling = {"runner": "pooling", "convert": "embed"}
    asked = [
        Question.of(ModelConfig(model_path=path, engine_args=each), "cuda-vllm", "0.32.0", Card())
        for each in ({}, pooling)
    ]
    assert asked[0].key != asked[1].key
    assert asked[1].arguments.items() >= pooling.items()


def test_a_decoder_that_makes_vectors_has_no_output_head(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    generating, pooling = (
        estimate(
            ModelConfig(engine="cuda-vllm", model_path=str(path), engine_args=args),
            "cuda-vllm",
            read_checkpoint(path),
            Card(),
        )
        for args in ({}, {"runner": "pooling"})
    )
    head = QWEN2_7B["vocab_size"] * QWEN2_7B["hidden_size"] * 2
    assert generating.part_bytes("weights") - pooling.part_bytes("weights") == head
