"""The weights of quantised checkpoints: as large as they are stored, whatever config.json calls the
type of the rest, and those that are quantised while they are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from contract.config import ModelConfig
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.estimate import estimate
from orchestrator.estimate.running import Card
from tests.orchestrator.estimate.test_published_models import write
from tests.orchestrator.models_on_disk import QWEN2_HALF_B, MakeModel

#: The elements of a matrix, and of its embedding.
ELEMENTS, EMBEDDING = 1024 * 1024, 1000 * 1024
WORDS: Final = {"model.embed_tokens.weight": ["BF16", [1000, 1024]]}
CONFIG: Final = QWEN2_HALF_B | {"tie_word_embeddings": True}
#: By the form of a checkpoint: its config.json, the tensors of a matrix, and the bytes of these.
STORED: Final[dict[str, tuple[dict[str, Any], dict[str, Any], int]]] = {
    "compressed-tensors in four bits": (
        {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
        {"weight_packed": ["I32", [1024, 128]], "weight_scale": ["BF16", [1024, 8]]},
        1024 * 128 * 4 + 1024 * 8 * 2,
    ),
    "NVFP4 of ModelOpt": (
        {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
        {"weight": ["U8", [1024, 512]], "weight_scale": ["F8_E4M3", [1024, 64]]},
        1024 * 512 + 1024 * 64,
    ),
    "MXFP8": (
        {"quantization_config": {"quant_method": "modelopt_mxfp8"}},
        {"weight": ["F8_E4M3", [1024, 1024]], "weight_scale": ["F8_E8M0", [1024, 32]]},
        ELEMENTS + 1024 * 32,
    ),
    "MXFP4": (
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"weight": ["F4", [1024, 1024]], "weight_scale": ["F8_E8M0", [1024, 32]]},
        ELEMENTS // 2 + 1024 * 32,
    ),
    "bitsandbytes": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"weight": ["U8", [524288, 1]], "weight.absmax": ["U8", [16384]]},
        524288 + 16384,
    ),
}


def weight_bytes(path: Path, **model: Any) -> int:
    config = ModelConfig(model_path=str(path), **model)
    return estimate(config, "cuda-vllm", read_checkpoint(path), Card()).part_bytes("weights")


@pytest.mark.parametrize("form", STORED)
def test_what_is_packed_stays_as_large_as_it_is_stored(tmp_path: Path, form: str) -> None:
    config, tensors, expected = STORED[form]
    named = {f"model.layers.0.mlp.up_proj.{name}": each for name, each in tensors.items()}
    path = tmp_path / "model"
    write(path, {"config.json": CONFIG | config}, {"model.safetensors": WORDS | named})
    assert weight_bytes(path) == 2 * EMBEDDING + expected


@pytest.mark.parametrize("name", ["model.gguf", "pytorch_model.bin"])
def test_quantised_files_without_a_header_are_not_taken_for_floats(
    tmp_path: Path, name: str
) -> None:
    config = CONFIG | {"torch_dtype": "float32"}
    if name.endswith("bin"):
        config |= {"quantization_config": {"quant_method": "torchao"}}
    write(tmp_path / "model", {"config.json": config}, {})
    (tmp_path / "model" / name).write_bytes(bytes(4096))
    assert weight_bytes(tmp_path / "model") == 4096


def test_the_method_may_be_in_the_file_of_modelopt_alone(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    assert read_checkpoint(path).quantization == ""
    (path / "hf_quant_config.json").write_text(
        json.dumps({"quantization": {"quant_algo": "NVFP4"}})
    )
    assert read_checkpoint(path).quantization == "NVFP4"


@pytest.mark.parametrize(
    ("method", "element_bytes"),
    [("fp8_per_block", 1), ("mxfp8", 1 + 1 / 32), ("mxfp4", 0.5 + 1 / 32)],
)
def test_a_matrix_may_be_quantised_while_it_is_loaded(
    tmp_path: Path, method: str, element_bytes: float
) -> None:
    matrix = {"model.layers.0.mlp.up_proj.weight": ["BF16", [1024, 1024]]}
    write(tmp_path / "model", {"config.json": CONFIG}, {"model.safetensors": WORDS | matrix})
    expected = 2 * EMBEDDING + element_bytes * ELEMENTS
    assert weight_bytes(tmp_path / "model", quantization=method) == expected
    given = {"quantization": method}
    assert weight_bytes(tmp_path / "model", engine_args=given) == expected


def test_experts_alone_are_quantised_where_there_are_some(tmp_path: Path) -> None:
    matrix = {"model.layers.0.mlp.up_proj.weight": ["BF16", [1024, 1024]]}
    for name, experts in (("dense", {}), ("experts", {"num_experts_per_tok": 2})):
        config = CONFIG | experts
        write(tmp_path / name, {"config.json": config}, {"model.safetensors": WORDS | matrix})
    method = {"quantization": "int8_per_channel_weight_only"}
    assert weight_bytes(tmp_path / "dense", **method) == 2 * (EMBEDDING + ELEMENTS)
    assert weight_bytes(tmp_path / "experts", **method) == 2 * EMBEDDING + ELEMENTS
