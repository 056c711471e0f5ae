"""Parsers by the name of the checkpoint."""

from __future__ import annotations

import pytest

from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers, parsers_of, recipe_for, recipes_for


@pytest.mark.parametrize(
    ("model_path", "tool", "reasoning"),
    [
        ("Qwen/Qwen3-8B", "hermes", "qwen3"),
        ("/srv/models/qwen3-8b-awq/", "hermes", "qwen3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "hermes", None),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_xml", None),
        ("Qwen/Qwen3-Embedding-0.6B", None, None),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3_json", None),
        ("meta-llama/Llama-3.1-8B", None, None),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", None, "deepseek_r1"),
        ("zai-org/GLM-4.5V", None, None),
        ("openai/gpt-oss-20b", "openai", "openai_gptoss"),
        ("deploy/demo-model", "hermes", "deepseek_v3"),
    ],
)
def test_what_is_known_of_a_checkpoint(
    model_path: str, tool: str | None, reasoning: str | None
) -> None:
    assert recipe_for(model_path) == ChosenParsers(tool, reasoning)


@pytest.mark.parametrize(
    ("engine", "model_path", "tool", "reasoning"),
    [
        ("cuda-sglang", "Qwen/Qwen3-8B", "qwen", "qwen3"),
        ("cuda-sglang", "meta-llama/Llama-3.1-8B-Instruct", "llama3", None),
        ("cuda-sglang", "openai/gpt-oss-20b", "gpt-oss", "gpt-oss"),
        ("cuda-sglang", "Qwen/Qwen3-Embedding-0.6B", None, None),
        ("cuda-trt", "Qwen/Qwen3-8B", "qwen3", "qwen3"),
        ("cuda-trt", "Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3", None),
        ("cuda-trt", "deepseek-ai/DeepSeek-R1", "deepseek_v3", "deepseek-r1"),
        ("cuda-trt", "meta-llama/Llama-3.1-8B-Instruct", None, None),
        ("mock", "Qwen/Qwen3-8B", None, None),
    ],
)
def test_each_library_has_its_own_names(
    engine: str, model_path: str, tool: str | None, reasoning: str | None
) -> None:
    chosen = parsers_of(ModelConfig(engine=engine, model_path=model_path))
    assert chosen == ChosenParsers(tool, reasoning)


def test_a_checkpoint_that_no_model_names_has_the_parsers_of_each_library() -> None:
    assert recipes_for("Qwen/Qwen3-8B") == {
        "vllm": ChosenParsers("hermes", "qwen3"),
        "sglang": ChosenParsers("qwen", "qwen3"),
        "tensorrt_llm": ChosenParsers("qwen3", "qwen3"),
    }
    assert list(recipes_for("meta-llama/Llama-3.1-8B-Instruct")) == ["vllm", "sglang"]
    assert recipes_for("some/thing") == {}


def test_the_entry_of_a_model_wins() -> None:
    def parsers(**entry: str) -> ChosenParsers:
        return parsers_of(ModelConfig(engine="vllm", model_path="Qwen/Qwen3-8B", **entry))

    assert parsers() == ChosenParsers("hermes", "qwen3")
    assert parsers(tool_parser="pythonic") == ChosenParsers("pythonic", "qwen3", True, False)
    assert parsers(reasoning_parser="none") == ChosenParsers("hermes", None, False, True)
