"""Whether a plan fits its host and its configuration, and the command that mends it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.tensorrt.plan import MANIFEST, Plan, PlanDevice, check_plan, read_plan

H100 = PlanDevice("NVIDIA H100 80GB HBM3", "9.0")
A100 = PlanDevice("NVIDIA A100-SXM4-80GB", "8.0")
ARGUMENTS = {"max_batch_size": 64, "max_input_len": 4096, "max_output_len": 2048, "tp_size": 1}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return build(tmp_path / "plan")


def build(path: Path, *, ranks: int = 1, with_manifest: bool = True, **arguments: Any) -> Plan:
    path.mkdir()
    given = {**ARGUMENTS, "tp_size": ranks, **arguments}
    config = {
        "version": "1.2.1",
        "pretrained_config": {"mapping": {"world_size": ranks, "tp_size": ranks, "pp_size": 1}},
        "build_config": {
            "max_batch_size": given["max_batch_size"],
            "max_input_len": given["max_input_len"],
            "max_seq_len": given["max_input_len"] + given["max_output_len"],
        },
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "rank0.engine").write_bytes(b"compiled")
    if with_manifest:
        manifest = {
            "format": 1,
            "kind": "plan",
            "source": {"model": "Qwen/Qwen2.5-7B-Instruct", "revision": None},
            "arguments": given,
            "versions": {"tensorrt_llm": "1.2.1"},
            "gpu": {"name": H100.name, "compute_capability": "9.0"},
            "files": {"rank0.engine": {"bytes": 8, "sha256": ""}},
        }
        (path / MANIFEST).write_text(json.dumps(manifest))
    found = read_plan(path)
    assert found is not None
    return found


def check(
    plan: Plan, version: str = "1.2.1", devices: tuple[PlanDevice, ...] = (H100,), **asked: Any
) -> None:
    model = ModelConfig(engine="cuda-trt", model_path=str(plan.path), **asked)
    check_plan("chat", model, plan, version, devices)


def refused(plan: Plan, *arguments: Any, **asked: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        check(plan, *arguments, **asked)
    return caught.value


def test_what_was_built_for_it_fits(plan: Plan) -> None:
    check(plan)
    check(plan, max_batch_size=64, max_input_len=4096, max_output_len=2048)
    check(plan, max_batch_size=8, max_model_len=1000)


@pytest.mark.parametrize(
    ("asked", "flags"),
    [
        ({"max_batch_size": 128}, ["--max-batch-size", "128"]),
        ({"max_input_len": 8192}, ["--max-input-len", "8192"]),
        ({"max_output_len": 3000}, ["--max-output-len", "3000"]),
        ({"max_model_len": 8192}, ["--max-output-len", "4096"]),
        ({"tensor_parallel_size": 2}, ["--tp-size", "2"]),
    ],
)
def test_asking_for_more_is_refused_with_the_command_that_gives_it(
    plan: Plan, asked: dict[str, int], flags: list[str]
) -> None:
    (name,) = asked
    error = refused(plan, **asked)
    assert name in error.message
    words = shlex.split(error.hint[error.hint.index("./ew convert-trt") :])
    assert words[:4] == ["./ew", "convert-trt", "--model", "Qwen/Qwen2.5-7B-Instruct"]
    assert words[4:6] == ["--output", str(plan.path)]
    at = words.index(flags[0])
    assert words[at : at + 2] == flags
    assert words[-1] == "--force"


def test_the_command_has_what_the_plan_was_built_with_and_no_defaults(tmp_path: Path) -> None:
    plan = build(tmp_path / "plan", quantization="fp8", max_batch_size=32)
    words = shlex.split(plan.convert_command(max_input_len=1000))
    assert words[words.index("--quantization") + 1] == "fp8"
    assert words[words.index("--max-batch-size") + 1] == "32"
    assert "--max-output-len" not in words
    assert "--tp-size" not in words


def test_another_kind_of_gpu_is_refused_and_one_of_several_will_do(plan: Plan) -> None:
    error = refused(plan, "1.2.1", (A100,))
    assert "built for NVIDIA H100 80GB HBM3 (compute capability 9.0)" in error.message
    assert "NVIDIA A100-SXM4-80GB (compute capability 8.0)" in error.message
    check(plan, "1.2.1", (A100, H100))


def test_without_a_known_capability_the_name_decides(plan: Plan) -> None:
    check(plan, "1.2.1", (PlanDevice(H100.name, None),))
    refused(plan, "1.2.1", (PlanDevice(A100.name, None),))


def test_gpus_that_cannot_be_seen_are_left_to_the_engine(plan: Plan) -> None:
    check(plan, "1.2.1", ())


def test_fewer_gpus_than_it_was_built_for_are_refused(tmp_path: Path) -> None:
    error = refused(build(tmp_path / "plan", ranks=4), "1.2.1", (H100, H100))
    assert "is for 4 GPUs, and this host has 2" in error.message
    assert "--tp-size 2" in error.hint


def test_another_release_is_refused_with_both_ways_on(plan: Plan) -> None:
    error = refused(plan, "1.1.0")
    assert "built by TensorRT-LLM 1.2.1, and the environment has 1.1.0" in error.message
    assert "./ew convert-trt" in error.hint
    assert "./ew setup --engine cuda-trt --version 1.2.1" in error.hint


@pytest.mark.parametrize("content", [None, b"half"])
def test_a_file_that_is_missing_or_cut_short_is_found(plan: Plan, content: bytes | None) -> None:
    engine = plan.path / "rank0.engine"
    engine.unlink()
    if content is not None:
        engine.write_bytes(content)
    assert "damaged" in refused(plan).message


def test_a_plan_that_ew_did_not_build_is_checked_as_far_as_it_tells(tmp_path: Path) -> None:
    plan = build(tmp_path / "plan", with_manifest=False)
    check(plan, "1.2.1", (A100,))
    assert "1.2.1" in refused(plan, "1.1.0").message
    assert "--model CHECKPOINT" in refused(plan, max_batch_size=65).hint


def test_a_checkpoint_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert read_plan(tmp_path) is None
    assert read_plan(tmp_path / "nowhere") is None
