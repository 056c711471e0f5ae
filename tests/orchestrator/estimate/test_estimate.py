"""The estimate follows the formulas, and the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import Checkpoint, read_checkpoint
from orchestrator.estimate.estimate import Estimate, estimate, estimate_model
from orchestrator.estimate.kv_cache import bytes_for
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.running import Card, running
from orchestrator.estimate.shape import Shape
from orchestrator.estimate.weights import Bulk, Weights
from orchestrator.terminal.sizes import GIB, MIB
from tests.orchestrator.models_on_disk import (
    QWEN2_7B,
    QWEN2_HALF_B,
    MakeModel,
    decoder_tensors,
    write_safetensors,
)

H200 = Card("NVIDIA H200", 143771 * MIB)


def model_config(path: Path, **settings: Any) -> ModelConfig:
    return ModelConfig(model_path=str(path), engine="cuda-vllm", **settings)


def estimate_of(path: Path, engine: str = "cuda-vllm", **settings: Any) -> Estimate:
    found = estimate_model(model_config(path, **settings), engine, H200)
    assert found is not None
    return found


def test_weights_and_cache_of_a_known_model(make_model: MakeModel) -> None:
    found = estimate_of(make_model(QWEN2_7B), max_model_len=4096, max_batch_size=8)
    assert found.part_bytes("weights") == 7_615_616_512 * 2
    # 2 x 28 layers x 4 heads x 128 x 2 bytes
    assert found.kv_cache.bytes_per_token == 57_344
    assert found.kv_cache.least_bytes == (4096 + 16) * 57_344
    assert found.kv_cache.wanted_bytes == (8 * 4096 + 16) * 57_344
    assert found.least_bytes == found.fixed_bytes + found.kv_cache.least_bytes


def test_without_a_limit_the_models_own_context_counts_and_the_estimate_says_so(
    make_model: MakeModel,
) -> None:
    found = estimate_of(make_model(QWEN2_7B))
    assert found.kv_cache.context_len == 32768
    assert any("`max_model_len` is not set" in note for note in found.notes)


def test_tensor_parallelism_divides_weights_and_cache(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    one, four = estimate_of(path), estimate_of(path, tensor_parallel_size=4)
    assert (one.gpus, four.gpus) == (1, 4)
    assert four.part_bytes("weights") == one.part_bytes("weights") // 4
    assert four.kv_cache.bytes_per_token == one.kv_cache.bytes_per_token // 4
    assert four.part_bytes("context") > one.part_bytes("context")


def test_more_gpus_than_kv_heads_hold_copies_of_them(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    two = estimate_of(path, tensor_parallel_size=2)
    assert estimate_of(path, tensor_parallel_size=14).kv_cache == two.kv_cache


def test_pipeline_parallelism_counts_the_largest_stage(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    found = estimate_of(path, pipeline_parallel_size=3)
    head = 152064 * 3584 * 2
    layers = 7_615_616_512 * 2 - 2 * head
    assert found.part_bytes("weights") == pytest.approx(layers * 10 / 28 + head, abs=2)
    assert found.kv_cache.bytes_per_token == 57_344 * 10 // 28


def test_single_precision_checkpoints_run_in_half_precision(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B | {"torch_dtype": "float32"}, dtype="F32")
    assert estimate_of(path).part_bytes("weights") == 494_032_768 * 2
    assert estimate_of(path, dtype="float32").part_bytes("weights") == 494_032_768 * 4


def test_quantising_while_loading_spares_embedding_and_head(make_model: MakeModel) -> None:
    found = estimate_of(make_model(QWEN2_7B), quantization="fp8")
    ends = 2 * 152064 * 3584 * 2
    layers = 7_615_616_512 - ends // 2
    assert found.part_bytes("weights") == pytest.approx(layers + ends, rel=0.001)


def test_weights_that_are_stored_quantised_stay_as_they_are(make_model: MakeModel) -> None:
    config = QWEN2_HALF_B | {"quantization_config": {"quant_method": "gptq"}}
    path = make_model(config)
    write_safetensors(path / "model.safetensors", decoder_tensors(QWEN2_HALF_B), "I32")
    found = estimate_of(path, quantization="gptq")
    assert found.part_bytes("weights") == 494_032_768 * 4
    assert "gptq" in found.parts[0].how


def test_a_cache_in_eight_bits_is_half_as_large(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    found = estimate_of(path, engine_args={"kv_cache_dtype": "fp8"})
    assert found.kv_cache.bytes_per_token == 57_344 // 2


def test_a_cache_that_the_user_has_fixed_is_taken_as_it_is(make_model: MakeModel) -> None:
    found = estimate_of(make_model(QWEN2_7B), engine_args={"kv_cache_memory_bytes": 2 * GIB})
    assert found.kv_cache.least_bytes == found.kv_cache.wanted_bytes == 2 * GIB


def test_latent_attention_is_not_divided(make_model: MakeModel) -> None:
    config = QWEN2_HALF_B | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}
    path = make_model(config)
    one, four = estimate_of(path), estimate_of(path, tensor_parallel_size=4)
    assert one.kv_cache.bytes_per_token == 24 * 576 * 2 == four.kv_cache.bytes_per_token


def test_sliding_layers_keep_their_window_only(make_model: MakeModel) -> None:
    config = QWEN2_HALF_B | {"use_sliding_window": None, "sliding_window": 1024}
    path = make_model(config)
    (path / "config.json").write_text(
        json.dumps(config | {"layer_types": ["sliding_attention", "full_attention"] * 12})
    )
    run = running(model_config(path), "cuda-vllm", read_checkpoint(path), H200)
    shape = read_checkpoint(path).shape
    per_layer = 2 * 2 * 64 * 2
    ten = bytes_for(10, shape, run) - bytes_for(9, shape, run)
    assert ten == (12 * 32768 + 12 * (1024 + 16)) * per_layer
    # SGLang and TensorRT-LLM are told a number of tokens, which every layer keeps.
    run = running(model_config(path), "cuda-sglang", read_checkpoint(path), H200)
    assert bytes_for(10, shape, run) - bytes_for(9, shape, run) == 24 * 32768 * per_layer


def test_a_planned_token_has_its_part_of_the_states(make_model: MakeModel) -> None:
    config = QWEN2_HALF_B | {"layer_types": ["linear_attention", "full_attention"] * 12}
    states = {"linear_num_value_heads": 32, "linear_num_key_heads": 16, "linear_conv_kernel_dim": 4}
    states |= {"linear_key_head_dim": 128, "linear_value_head_dim": 128}
    path = make_model(config)
    (path / "config.json").write_text(json.dumps(config | states))
    cache = estimate_of(path, "cuda-sglang", max_model_len=4096).kv_cache
    assert cache.bytes_per_token == 12 * 2 * 2 * 64 * 2
    assert cache.state_bytes > 4096 * cache.bytes_per_token // 8
    assert cache.least_bytes // cache.bytes_per_planned_token >= 4096
    assert cache.wanted_bytes // cache.bytes_per_planned_token < 18 * 4096


@pytest.mark.parametrize("place", ["config.json", "hf_quant_config.json"])
@pytest.mark.parametrize(("algorithm", "size"), [("FP8", 1), ("INT8", 1), ("NVFP4", 0.5625)])
def test_a_checkpoint_says_how_its_keys_and_values_are_kept(
    make_model: MakeModel, place: str, algorithm: str, size: float
) -> None:
    path = make_model(QWEN2_7B)
    said: dict[str, Any] = {"quant_algo": "FP8", "kv_cache_quant_algo": algorithm}
    if place == "config.json":
        said = QWEN2_7B | {"quantization_config": said | {"quant_method": "modelopt"}}
    else:
        said = {"quantization": said}
    (path / place).write_text(json.dumps(said))
    assert estimate_of(path).kv_cache.bytes_per_token == 28_672 * size
    own = estimate_of(path, engine_args={"kv_cache_dtype": "bfloat16"})
    assert own.kv_cache.bytes_per_token == 57_344


def test_without_graphs_nothing_is_reserved_for_them(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    graphs = estimate_of(path)
    eager = estimate_of(path, engine_args={"enforce_eager": True})
    assert graphs.part_bytes("CUDA graphs") > 100 * MIB
    assert eager.part_bytes("CUDA graphs") == 0
    # With graphs, vLLM gives the activations back before it is ready; without, it keeps them.
    assert graphs.unseen_at_rest_bytes == graphs.part_bytes("activations")
    assert eager.unseen_at_rest_bytes == 0


def test_small_batches_need_fewer_graphs_and_less_for_the_sampler(make_model: MakeModel) -> None:
    path = make_model(QWEN2_7B)
    few, many = estimate_of(path, max_batch_size=8), estimate_of(path, max_batch_size=256)
    assert few.part_bytes("CUDA graphs") < many.part_bytes("CUDA graphs")
    # The sampler works in the memory that the layers have left: it counts when it needs more.
    assert few.part_bytes("activations") == estimate_of(path, max_batch_size=1).part_bytes(
        "activations"
    )
    huge = estimate_of(path, max_batch_size=512).part_bytes("activations")
    assert few.part_bytes("activations") < huge == 512 * 152064 * 34


def test_engine_arguments_win_as_they_do_in_the_worker(make_model: MakeModel) -> None:
    found = estimate_of(
        make_model(QWEN2_7B),
        max_model_len=1024,
        engine_args={"max_model_len": 2048, "tensor_parallel_size": 2},
    )
    assert (found.kv_cache.context_len, found.gpus) == (2048, 2)


def test_the_users_own_fraction_is_kept(make_model: MakeModel) -> None:
    assert estimate_of(make_model(QWEN2_7B), gpu_memory_utilization=0.5).fraction == 0.5


def test_engines_without_a_gpu_need_none(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    for engine in ("cpu-vllm", "openai", "mock"):
        assert estimate_model(model_config(path), engine, H200) is None


def test_the_mock_engine_needs_what_it_is_told_to_pretend() -> None:
    model = ModelConfig(engine="mock", model_path="none", engine_args={"allocate_mib": 300})
    found = estimate_model(model, "mock", H200)
    assert found is not None
    assert found.least_bytes == found.wanted_bytes == 300 * MIB


def make_plan(path: Path, ranks: int = 1, **build: Any) -> Path:
    path.mkdir()
    config = {
        "version": "1.2.1",
        "pretrained_config": {
            "architecture": "Qwen2ForCausalLM",
            "dtype": "float16",
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "hidden_size": 3584,
            "head_size": 128,
            "vocab_size": 152064,
            "mapping": {"world_size": ranks, "tp_size": ranks, "pp_size": 1},
            "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
        },
        "build_config": {
            "max_seq_len": 6144,
            "max_batch_size": 64,
            "max_num_tokens": 8192,
            "max_beam_width": 1,
        }
        | build,
    }
    (path / "config.json").write_text(json.dumps(config))
    for rank in range(ranks):
        with (path / f"rank{rank}.engine").open("wb") as file:
            file.truncate(GIB * (rank + 1))
    return path


def test_a_plan_is_as_large_as_its_largest_rank(tmp_path: Path) -> None:
    found = estimate_of(make_plan(tmp_path / "plan", ranks=2), "cuda-trt", max_model_len=4096)
    assert found.gpus == 2
    assert found.part_bytes("weights") == 2 * GIB
    assert found.kv_cache.bytes_per_token == 57_344 // 2
    assert found.part_bytes("activations") == 8192 * 3584 * 2 * 16
    config = json.loads((tmp_path / "plan" / "config.json").read_text())
    config["pretrained_config"]["quantization"]["kv_cache_quant_algo"] = "FP8"
    (tmp_path / "plan" / "config.json").write_text(json.dumps(config))
    found = estimate_of(tmp_path / "plan", "cuda-trt", max_model_len=4096)
    assert found.kv_cache.bytes_per_token == 57_344 // 4


def test_a_plan_cannot_do_more_than_it_was_built_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was built for 6144 tokens") as error:
        estimate_of(make_plan(tmp_path / "plan"), "cuda-trt", max_model_len=8192)
    assert "convert" in error.value.hint


def test_a_plan_without_files_is_an_error(tmp_path: Path) -> None:
    path = make_plan(tmp_path / "plan", ranks=0)
    with pytest.raises(UserError, match=r"no rank\*\.engine files"):
        estimate_of(path, "cuda-trt")


caches = st.builds(
    CacheLayers,
    kind=st.just("full"),
    layers=st.integers(1, 96),
    heads=st.sampled_from([1, 2, 8]),
    elements=st.sampled_from([128, 256]),
) | st.sampled_from(
    [
        CacheLayers("window", 40, 8, 512, window=1024),
        CacheLayers("state", 36, state_bytes=2_146_304),
        CacheLayers("full", 61, 1, 576, is_shared=True),
    ]
)
shapes = st.builds(
    Shape,
    layers=st.integers(1, 96),
    hidden_size=st.sampled_from([256, 896, 3584, 8192]),
    heads=st.sampled_from([8, 16, 64]),
    kv_heads=st.sampled_from([1, 2, 8]),
    head_dim=st.sampled_from([64, 128]),
    intermediate_size=st.sampled_from([1024, 18944]),
    vocab_size=st.sampled_from([32000, 152064]),
    context_len=st.sampled_from([2048, 131072]),
    caches=st.lists(caches, min_size=1, max_size=3).map(tuple),
    experts_per_token=st.sampled_from([0, 8]),
    expert_size=st.just(1024),
)


@settings(max_examples=200, deadline=None)
@given(shape=shapes, context=st.integers(16, 100_000), batch=st.integers(1, 512))
def test_more_context_or_batch_never_needs_less(shape: Shape, context: int, batch: int) -> None:
    base = _needs(shape, max_model_len=context, max_batch_size=batch)
    assert base <= _needs(shape, max_model_len=context + 1, max_batch_size=batch)
    assert base <= _needs(shape, max_model_len=context, max_batch_size=batch + 1)


@settings(max_examples=200, deadline=None)
@given(shape=shapes, tp=st.sampled_from([1, 2, 4]), pp=st.sampled_from([1, 2, 3]))
def test_no_part_is_negative_and_dividing_never_adds(shape: Shape, tp: int, pp: int) -> None:
    found = _estimate(shape, tensor_parallel_size=tp, pipeline_parallel_size=pp)
    doubled = _estimate(shape, tensor_parallel_size=2 * tp, pipeline_parallel_size=pp)
    assert all(part.size_bytes > 0 for part in found.parts)
    assert 0 < found.kv_cache.least_bytes <= found.kv_cache.wanted_bytes
    for name in ("weights", "activations", "CUDA graphs"):
        assert doubled.part_bytes(name) <= found.part_bytes(name)
    assert doubled.kv_cache.least_bytes <= found.kv_cache.least_bytes


def _needs(shape: Shape, **settings: Any) -> tuple[int, int]:
    found = _estimate(shape, **settings)
    return found.least_bytes, found.wanted_bytes


def _estimate(shape: Shape, **settings: Any) -> Estimate:
    elements = 12 * shape.layers * shape.hidden_size**2
    weights = Weights("test", Bulk(elements, elements), Bulk(shape.vocab_size * shape.hidden_size))
    checkpoint = Checkpoint(Path("x"), shape, "bfloat16", weights)
    model = ModelConfig(model_path="x", engine="cuda-vllm", **settings)
    return estimate(model, "cuda-vllm", checkpoint, H200)
