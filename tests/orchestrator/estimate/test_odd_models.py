"""Whatever a model's files or settings say: an estimate, or an error of that model alone that
names the file and the key."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from contract.config import ModelConfig
from orchestrator.cli import plain_app
from orchestrator.cli.configure.estimate import estimate as estimate_command
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import locate, read_checkpoint
from orchestrator.estimate.estimate import Estimate, estimate
from orchestrator.estimate.running import Card
from orchestrator.gpu import demand
from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.gpu.demand import need_of
from orchestrator.gpu.footprints import Footprints
from tests.orchestrator.gpu.test_allocator import CARD, worker
from tests.orchestrator.models_on_disk import QWEN2_7B, QWEN2_HALF_B, MakeModel
from tests.orchestrator.scenes import Scene

INDEX = "model.safetensors.index.json"


def estimated(path: Path, **model: Any) -> Estimate:
    """As the supervisor does it, but without its guard."""
    config = ModelConfig(model_path=str(path), **model)
    return estimate(config, "cuda-vllm", read_checkpoint(locate(str(path))), Card())


ODD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "a word for an object": ({"quantization_config": "fp8"}, "quantization_config"),
    "a list for an object": ({"text_config": []}, "text_config"),
    "deep inside": ({"text_config": {"hidden_size": "wide"}}, "text_config.hidden_size"),
    "a number for a list": ({"layer_types": 3}, "layer_types"),
    "an object in a list": ({"layer_types": [{}]}, r"layer_types\[0\]"),
    "less than nothing": ({"num_hidden_layers": -1}, "num_hidden_layers"),
    "more than anything": ({"vocab_size": 10**400}, "vocab_size"),
    "not a number": ({"head_dim": float("nan")}, "head_dim"),
    "an endless number": ({"max_position_embeddings": float("inf")}, "max_position_embeddings"),
    "a list of words": ({"intermediate_size": ["big"]}, "intermediate_size"),
}


@pytest.mark.parametrize("name", ODD_CONFIGS)
def test_a_key_that_cannot_be_used_is_named(make_model: MakeModel, name: str) -> None:
    changes, key = ODD_CONFIGS[name]
    path = make_model(QWEN2_HALF_B)
    (path / "config.json").write_text(json.dumps(QWEN2_HALF_B | changes))
    with pytest.raises(UserError, match=rf"config\.json: .*`{key}") as error:
        estimated(path)
    assert "gpu_memory_utilization" in error.value.hint


def test_numbers_may_be_written_in_other_ways(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    odd = {"max_position_embeddings": 32768.0, "time_step_limit": [0.0, float("inf")]}
    (path / "config.json").write_text(json.dumps(QWEN2_HALF_B | odd))
    assert read_checkpoint(path).shape.context_len == 32768


def test_of_figures_for_each_layer_the_largest_counts(make_model: MakeModel) -> None:
    path = make_model(QWEN2_HALF_B)
    each = {"intermediate_size": [4864, 9728], "num_key_value_heads": [2, 1], "moe_topk": [8, 8]}
    (path / "config.json").write_text(json.dumps(QWEN2_HALF_B | each))
    shape = read_checkpoint(path).shape
    assert (shape.intermediate_size, shape.kv_heads, shape.experts_per_token) == (9728, 2, 8)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"metadata": None, "weight_map": {"a": "model.safetensors"}}, ""),
        ({"metadata": {"total_size": None}, "weight_map": None}, ""),
        ({"metadata": {"total_size": 5.0, "format": 3}}, ""),
        ({"metadata": None, "weight_map": {"a": "b.safetensors"}}, "lacks b.safetensors"),
        ({"metadata": "none"}, "index.json: .*`metadata`"),
        ({"metadata": {"total_size": -1}}, "index.json: .*`metadata.total_size`"),
        ({"weight_map": ["model.safetensors"]}, "index.json: .*`weight_map`"),
        ({"weight_map": {"a": None}}, "index.json: .*`weight_map"),
        ([], "index.json: expected an object"),
    ],
)
def test_an_index_may_leave_out_what_it_likes(make_model: MakeModel, index: Any, said: str) -> None:
    path = make_model(QWEN2_HALF_B)
    (path / INDEX).write_text(json.dumps(index))
    if not said:
        assert estimated(path).least_bytes
        return
    with pytest.raises(UserError, match=said):
        estimated(path)


TENSOR = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": None},
        {"shape": 4},
        {"shape": [2, -2]},
        {"shape": [10**9, 10**9]},
        {"data_offsets": [8]},
        {"data_offsets": [8, 0]},
        {"data_offsets": None},
    ],
)
def test_a_tensor_that_cannot_be_is_named(make_model: MakeModel, changes: dict[str, Any]) -> None:
    path = make_model(QWEN2_HALF_B)
    write_header(path, {"model.w": TENSOR | changes})
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file: `model\.w`"):
        estimated(path)


def write_header(path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("file", ["config.json", INDEX, "model.safetensors"])
@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff\xfe{}", b'{"a": "\xff"}', b""])
def test_a_file_that_is_no_json_is_named(make_model: MakeModel, file: str, content: bytes) -> None:
    path = make_model(QWEN2_HALF_B)
    if file.endswith("tensors"):
        content = struct.pack("<Q", len(content)) + content
    (path / file).write_bytes(content)
    with pytest.raises(UserError, match=file.replace(".", r"\.")):
        estimated(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
KEYS = [
    *QWEN2_7B,
    *("text_config", "llm_config", "quantization_config", "layer_types", "sliding_window_pattern"),
    *("kv_lora_rank", "qk_rope_head_dim", "num_experts_per_tok", "moe_intermediate_size"),
    *("head_dim", "multi_query", "pretrained_config", "build_config", "dtype"),
]
FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def ends_well(path: Path, **model: Any) -> None:
    try:
        found = estimated(path, **model)
    except UserError as error:
        assert error.message
        assert error.hint
    else:
        assert found.least_bytes > 0


@pytest.fixture
def one_model(make_model: MakeModel) -> Path:
    path = make_model(QWEN2_HALF_B)
    write_header(path, {"w": TENSOR})
    return path


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3))
def test_any_value_at_any_key_of_the_configuration(
    one_model: Path, changes: dict[str, Any]
) -> None:
    (one_model / "config.json").write_text(json.dumps(QWEN2_HALF_B | changes))
    ends_well(one_model)


@FUZZ
@given(part=st.sampled_from(["pretrained_config", "build_config"]), changes=st.data())
def test_any_value_at_any_key_of_a_plan(one_model: Path, part: str, changes: st.DataObject) -> None:
    plan: dict[str, Any] = {
        "pretrained_config": QWEN2_HALF_B | {"mapping": {"pp_size": 1}, "quantization": {}},
        "build_config": {"max_batch_size": 8, "max_num_tokens": 64, "max_seq_len": 4096},
    }
    key = changes.draw(st.sampled_from(sorted(plan[part])))
    plan[part][key] = changes.draw(JSON)
    (one_model / "rank0.engine").write_bytes(b"x")
    (one_model / "config.json").write_text(json.dumps(plan))
    ends_well(one_model)


@FUZZ
@given(index=st.dictionaries(st.sampled_from(["metadata", "weight_map"]), JSON) | JSON)
def test_any_value_in_an_index(one_model: Path, index: Any) -> None:
    (one_model / INDEX).write_text(json.dumps(index))
    ends_well(one_model)


@FUZZ
@given(changes=st.dictionaries(st.sampled_from(sorted(TENSOR)), JSON), beside=JSON)
def test_any_value_in_a_header(one_model: Path, changes: dict[str, Any], beside: Any) -> None:
    write_header(one_model, {"w": TENSOR | changes, "x": beside, "__metadata__": beside})
    ends_well(one_model)


ARGUMENTS = [
    *("max_model_len", "max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size"),
    *("gpu_memory_utilization", "kv_cache_memory_bytes", "kv_cache_dtype", "dtype", "max_loras"),
    *("cudagraph_capture_sizes", "max_cudagraph_capture_size", "compilation_config"),
]


@FUZZ
@given(args=st.dictionaries(st.sampled_from(ARGUMENTS), JSON, max_size=3))
def test_any_value_at_any_argument_of_the_engine(one_model: Path, args: dict[str, Any]) -> None:
    ends_well(one_model, engine_args=args)


def test_a_model_whose_files_say_nothing_has_the_part_that_it_is_given(
    make_model: MakeModel, tmp_path: Path
) -> None:
    path = make_model(QWEN2_HALF_B)
    (path / "config.json").write_text('{"model_type": "vit"}')
    model = ModelConfig(model_path=str(path), gpu_memory_utilization=0.4)
    need = need_of("m", model, "cuda-vllm", Card(), Footprints(tmp_path / "footprints"))
    assert need is not None
    assert need.demand("m-0").fraction == 0.4
    assert "does not describe a decoder" in need.estimate.notes[0]


@pytest.fixture
def with_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen value in the files of one of the models."""
    real = demand.estimate_model

    def estimate_model(model: ModelConfig, *rest: Any) -> Estimate | None:
        if model.model_path.endswith("odd"):
            raise AttributeError("'NoneType' object has no attribute 'get'")
        return real(model, *rest)

    monkeypatch.setattr(demand, "estimate_model", estimate_model)
    monkeypatch.setenv("HF_HOME", "/nowhere")


def test_what_nobody_thought_of_ends_as_that_models_state(
    with_a_defect: None,
    scene: Scene,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))
    scene.show(CARD)
    allocator = GpuAllocator()
    allocator.observed(scene.snapshot(), {})
    good, odd = worker("good", make_model(QWEN2_HALF_B)), worker("odd", tmp_path / "odd")
    refused = allocator.reserve([good, odd])
    assert list(refused) == ["odd-0"]
    assert "`odd`" in refused["odd-0"].message
    with pytest.raises(UserError, match="cannot be worked out"):
        allocator.demands([odd])
    assert allocator.load_s(odd) is None


def test_an_odd_model_spoils_no_estimate_but_its_own(
    with_a_defect: None,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {
        name: {"engine": "cuda-vllm", "max_model_len": 4096, "model_path": str(path)}
        for name, path in {"good": make_model(QWEN2_HALF_B), "odd": tmp_path / "odd"}.items()
    }
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("EW_CONFIG", str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text(json.dumps({"models": models}))
    app = plain_app()
    app.command("estimate")(estimate_command)
    shown = CliRunner().invoke(app, ["--on", "1x80"])
    assert shown.exit_code == 1
    assert "good-0 would take" in shown.stdout
    assert "what `odd` needs of a GPU cannot be" in shown.stdout
