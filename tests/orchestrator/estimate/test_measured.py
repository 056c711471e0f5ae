"""The estimate agrees with what NVML showed of real engines on real GPUs, as
`scripts/programs/gpu_acceptance` has written it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.config import ModelConfig
from contract.paths import ROOT
from orchestrator.estimate.checkpoint import read_checkpoint
from orchestrator.estimate.description import Description, as_described
from orchestrator.estimate.estimate import estimate
from orchestrator.estimate.running import Card
from orchestrator.terminal.sizes import GIB, MIB
from tests.orchestrator.estimate.test_published_models import PUBLISHED, write
from tests.orchestrator.models_on_disk import QWEN2_7B, QWEN2_HALF_B, MakeModel

RESULTS = ROOT / "docs" / "gpu-acceptance" / "results.json"
#: Of published configurations, later ones with vLLM's own description.
PUBLISHED_RESULTS = [
    RESULTS.with_name(f"{name}.json") for name in ("published", "vllm-0.26.0", "vllm-0.33.0")
]
#: The arguments of a model that is asked for vectors.
POOLING = {"runner": "pooling", "convert": "embed"}
H200 = Card("NVIDIA H200", 143771 * MIB)


def rows(results: Path = RESULTS) -> list[dict[str, Any]]:
    pieces = json.loads(results.read_text())
    return [row for piece in pieces for row in piece["rows"] if not piece["facts"]["mock"]]


def published_rows() -> list[dict[str, Any]]:
    found = [row for results in PUBLISHED_RESULTS for row in rows(results)]
    return [row for row in found if row["shape"] in PUBLISHED and not row.get("problem")]


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


@pytest.mark.parametrize(
    "row", published_rows(), ids=lambda row: f"{row['combination']}-{row.get('release', '')}"
)
def test_the_estimate_of_a_published_model_is_what_was_measured(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    path = tmp_path / "model"
    write(path, PUBLISHED[row["shape"]]["files"], PUBLISHED[row["shape"]]["tensors"])
    model = ModelConfig(
        engine="cuda-vllm",
        model_path=str(path),
        dtype=row["dtype"],
        max_model_len=row["max_model_len"],
        max_batch_size=row["batch"],
        engine_args=dict(POOLING) if row.get("makes_vectors") else {},
    )
    checkpoint = read_checkpoint(path, row.get("release", ""))
    if row.get("described"):
        said = msgspec.convert(row["described"], Description)
        checkpoint = as_described(checkpoint, said)
    found = estimate(model, "cuda-vllm", checkpoint, H200)
    peak = found.fixed_bytes - found.part_bytes("spare") + row["kv_cache_bytes"]
    assert abs(peak - row["measured_peak"]) <= max(GIB // 2, row["measured_peak"] * 3 // 100)


def test_enough_was_measured() -> None:
    assert len({row["combination"] for row in rows()}) >= 6
