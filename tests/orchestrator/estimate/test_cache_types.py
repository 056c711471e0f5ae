"""How wide keys and values are: the types that a checkpoint or the configuration asks for."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from contract.config import ModelConfig
from orchestrator.estimate.estimate import estimate_model
from tests.orchestrator.estimate.test_estimate import H200, estimate_of
from tests.orchestrator.models_on_disk import QWEN2_7B, MakeModel

SCHEME: Final = {"type": "float", "strategy": "tensor", "dynamic": False}
#: Bytes a token of a dense model of 28 layers with 4 KV heads of 128, in the pool that vLLM 0.32
#: makes of 8 GiB (`get_kv_cache_configs`, with the specs of its Triton and TurboQuant backends).
BYTES: Final = {
    "bfloat16": 57_344,
    "fp8_e4m3": 28_672,
    "int8_per_token_head": 29_568,
    "fp8_per_token_head": 29_568,
    "int4_per_token_head": 15_232,
    "turboquant_k8v4": 27_008,
    "turboquant_4bit_nc": 21_056,
    "turboquant_k3v4_nc": 19_520,
    "turboquant_3bit_nc": 17_984,
}


@pytest.mark.parametrize(("name", "size"), BYTES.items())
def test_a_type_with_scales_is_as_wide_as_vllm_makes_it(
    make_model: MakeModel, name: str, size: int
) -> None:
    path = make_model(QWEN2_7B)
    found = estimate_of(path, engine_args={"kv_cache_dtype": name})
    assert found.kv_cache.bytes_per_token == size


def test_layers_that_attend_among_recurrent_ones_are_all_packed(make_model: MakeModel) -> None:
    states = {"linear_num_key_heads": 16, "linear_num_value_heads": 32}
    states |= {"linear_key_head_dim": 128, "linear_value_head_dim": 128}
    kinds = ["linear_attention"] * 3 + ["full_attention"]
    config = QWEN2_7B | {"layer_types": kinds * 7, "linear_conv_kernel_dim": 4} | states
    found = estimate_of(make_model(config), engine_args={"kv_cache_dtype": "turboquant_k8v4"})
    assert found.kv_cache.bytes_per_token == 7 * 4 * (128 + 64 + 4)


@pytest.mark.parametrize("method", ["compressed-tensors", "modelopt"])
@pytest.mark.parametrize(("bits", "size"), [(8, 1), (4, 0.5625), (None, 2)])
def test_a_scheme_for_the_cache_counts_unless_another_type_is_asked_for(
    make_model: MakeModel, method: str, bits: int | None, size: float
) -> None:
    scheme = SCHEME | {"num_bits": bits} if bits else None
    said: dict[str, Any] = {"quant_method": method, "kv_cache_scheme": scheme}
    path = make_model(QWEN2_7B)
    (path / "config.json").write_text(json.dumps(QWEN2_7B | {"quantization_config": said}))
    assert estimate_of(path).kv_cache.bytes_per_token == 28_672 * size
    own = estimate_of(path, engine_args={"kv_cache_dtype": "bfloat16"})
    assert own.kv_cache.bytes_per_token == 57_344


@pytest.mark.parametrize(
    ("said", "asked", "size"),
    [
        ({"kv_cache_quant_algo": "NVFP4"}, None, 2),
        ({"kv_cache_quant_algo": "FP8"}, None, 1),
        ({"kv_cache_scheme": SCHEME | {"num_bits": 4}}, None, 2),
        ({"kv_cache_scheme": SCHEME | {"num_bits": 8}}, None, 1),
        ({"kv_cache_quant_algo": "NVFP4"}, "nvfp4", 0.5625),
        ({}, "mxfp8", 1 + 1 / 32),
    ],
)
def test_sglang_takes_eight_bits_alone_from_a_checkpoint(
    make_model: MakeModel, said: dict[str, Any], asked: str | None, size: float
) -> None:
    path = make_model(QWEN2_7B)
    section = {"quant_method": "modelopt", **said}
    (path / "config.json").write_text(json.dumps(QWEN2_7B | {"quantization_config": section}))
    args = {"kv_cache_dtype": asked} if asked else {}
    model = ModelConfig(model_path=str(path), engine="cuda-sglang", engine_args=args)
    found = estimate_model(model, "cuda-sglang", H200)
    assert found is not None
    assert found.kv_cache.bytes_per_token == 28_672 * size
