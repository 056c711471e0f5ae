"""The estimate agrees with what NVML showed of real engines on real GPUs, as
`scripts/programs/gpu_acceptance` has written it down."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contract.config import ModelConfig
from contract.paths import ROOT
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.estimate import estimate
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import GIB, MIB
from tests.orchestrator.models_on_disk import QWEN2_7B, QWEN2_HALF_B, MakeModel

RESULTS = ROOT / "docs" / "gpu-acceptance" / "results.json"
H200 = Card("NVIDIA H200", 143771 * MIB)


def rows() -> list[dict[str, Any]]:
    pieces = json.loads(RESULTS.read_text())
    return [row for piece in pieces for row in piece["rows"] if not piece["facts"]["mock"]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["combination"])
def test_the_estimate_is_what_was_measured(make_model: MakeModel, row: dict[str, Any]) -> None:
    shape = {"0.5B": QWEN2_HALF_B, "7B": QWEN2_7B}[row["shape"]]
    path = make_model(shape)
    model = ModelConfig(
        engine="cuda-vllm",
        model_path=str(path),
        dtype=row["dtype"],
        max_model_len=row["max_model_len"],
        max_batch_size=row["batch"],
        engine_args={} if row["graphs"] else {"enforce_eager": True},
    )
    found = estimate(model, "cuda-vllm", read_checkpoint(path), H200)
    peak = found.fixed_bytes - found.part_bytes("spare") + row["kv_cache_bytes"]
    assert abs(peak - row["measured_peak"]) <= max(GIB, row["measured_peak"] // 10)
    is_today = abs(peak - row["estimated_peak"]) < 64 * MIB
    assert is_today, "`scripts/programs/gpu_acceptance report` brings the table up to date"
    # The reservation holds the memory that was taken, but for a trifle.
    assert found.fixed_bytes + row["kv_cache_bytes"] > row["measured_peak"] - 128 * MIB


def test_enough_was_measured() -> None:
    assert len({row["combination"] for row in rows()}) >= 6
