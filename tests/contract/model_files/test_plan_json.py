"""The limits in a plan's config.json, for the supervisor and for the worker alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.model_files.plan_json import PlanBuildJson, PlanLimits, is_plan, limits_of
from orchestrator.estimate.checkpoint import read_checkpoint
from workers.engines.trtllm.model_files import ModelFiles

MODEL = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
}


def build(**said: Any) -> PlanBuildJson:
    return msgspec.convert(said, PlanBuildJson)


def test_what_a_plan_does_not_say_is_tensorrt_llms_own() -> None:
    assert limits_of(build()) == PlanLimits(2048, 2048, 2048, 8192, 1, has_lora=False)
    assert limits_of(build(), 4096).max_seq_len == 4096
    lora = limits_of(build(max_input_len=9, plugin_config={"lora_plugin": "float16"}))
    assert lora.has_lora
    assert lora.longest_prompt == 9


def test_a_checkpoint_is_no_plan() -> None:
    assert not is_plan(MODEL)
    assert is_plan({"pretrained_config": MODEL, "build_config": {}})


@pytest.mark.parametrize("said", [{}, {"max_batch_size": 8, "max_seq_len": 512}], ids=str)
def test_both_sides_of_the_wall_read_the_same(said: dict[str, Any], tmp_path: Path) -> None:
    config = {"pretrained_config": MODEL, "build_config": said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "rank0.engine").write_bytes(b"plan")
    planned, served = read_checkpoint(tmp_path).plan, ModelFiles(tmp_path).plan
    assert planned is not None
    assert planned.limits == served
