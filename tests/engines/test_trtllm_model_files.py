"""Reading of plans and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workers.engines.trtllm.model_files import ModelFiles

QWEN = {
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_size": 3584,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
    "eos_token_id": 151643,
}


def plan(path: Path, ranks: int = 1, **shape: Any) -> Path:
    mapping = {"world_size": ranks, "tp_size": ranks, "pp_size": 1}
    config = {
        "version": "1.2.1",
        "pretrained_config": {**QWEN, "dtype": "float16", "mapping": mapping, **shape},
        "build_config": {
            "max_batch_size": 64,
            "max_input_len": 4096,
            "max_seq_len": 6144,
            "max_num_tokens": 8192,
            "max_beam_width": 1,
            "plugin_config": {"lora_plugin": None},
        },
    }
    (path / "config.json").write_text(json.dumps(config))
    for rank in range(ranks):
        (path / f"rank{rank}.engine").touch()
    return path


def checkpoint(path: Path, **config: Any) -> Path:
    (path / "config.json").write_text(json.dumps(config or QWEN))
    return path


def test_a_plan_tells_its_limits(tmp_path: Path) -> None:
    files = ModelFiles(plan(tmp_path))
    assert files.plan is not None
    assert (files.plan.max_batch_size, files.plan.max_input_len) == (64, 4096)
    assert files.context_len == 6144
    assert not files.plan.has_lora


def test_a_checkpoint_is_no_plan(tmp_path: Path) -> None:
    files = ModelFiles(checkpoint(tmp_path))
    assert files.plan is None
    assert files.context_len == 32768
    assert files.end_ids == [151643]


def test_a_plan_without_one_of_its_ranks_is_refused(tmp_path: Path) -> None:
    plan(tmp_path, ranks=2)
    (tmp_path / "rank1.engine").unlink()
    with pytest.raises(ValueError, match=r"incomplete: rank1\.engine is missing"):
        ModelFiles(tmp_path)


def test_a_checkpoint_of_tensorrt_llms_own_is_refused_with_the_way_on(tmp_path: Path) -> None:
    checkpoint(tmp_path, architecture="LlamaForCausalLM")
    (tmp_path / "rank0.safetensors").touch()
    with pytest.raises(ValueError, match="convert-trt"):
        ModelFiles(tmp_path)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json"):
        ModelFiles(tmp_path)
