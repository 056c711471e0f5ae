"""Measurements are remembered, and only as long as they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contract.config import ModelConfig
from orchestrator.gpu.footprints import Footprint, Footprints, footprint_key
from orchestrator.terminal.sizes import GIB, MIB


def measured(ready_gib: float, **more: Any) -> Footprint:
    ready = int(ready_gib * GIB)
    facts = {"engine": "cuda-vllm", "version": "0.26.0", "unseen_bytes": 0, "load_s": 40.0}
    return Footprint(ready_bytes=ready, peak_bytes=ready, **facts | more)


def test_what_was_learned_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state" / "footprints.json"
    Footprints(path).learn("k", measured(10))
    found = Footprints(path).get("k")
    assert found is not None
    assert found.ready_bytes == 10 * GIB
    assert path.stat().st_mode & 0o777 == 0o600


def test_activations_that_were_not_seen_yet_are_reserved_all_the_same(tmp_path: Path) -> None:
    known = Footprints(tmp_path / "f").learn("k", measured(10, unseen_bytes=2 * GIB))
    assert known.fixed_bytes == 12 * GIB + 256 * MIB


def test_the_most_that_was_ever_seen_counts(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path / "f")
    footprints.learn("k", measured(10))
    footprints.saw("k", 13 * GIB)
    footprints.saw("k", 11 * GIB)
    known = footprints.learn("k", measured(10))
    assert (known.peak_bytes, known.starts) == (13 * GIB, 2)
    assert known.fixed_bytes == 13 * GIB + 256 * MIB


def test_load_times_follow_the_newest(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path / "f")
    footprints.learn("k", measured(1, load_s=40.0))
    assert footprints.learn("k", measured(1, load_s=20.0)).load_s == 30.0


def test_another_version_is_measured_anew(tmp_path: Path) -> None:
    footprints = Footprints(tmp_path / "f")
    footprints.learn("k", measured(13))
    assert footprints.get("k", "0.27.0") is None
    assert footprints.learn("k", measured(10, version="0.27.0")).peak_bytes == 10 * GIB


def test_a_damaged_file_costs_only_what_was_in_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("{")
    assert Footprints(path).get("k") is None


def test_only_what_changes_the_memory_changes_the_key() -> None:
    def key(**settings: Any) -> str:
        model = ModelConfig(model_path="m", engine="cuda-vllm", **settings)
        return footprint_key(model, "cuda-vllm", "NVIDIA H200")

    assert key() == key(replicas=3, load="on-demand", idle_unload_s=5, pinned=True, gpus=[1])
    assert len({key(), key(max_model_len=5), key(dtype="float16"), key(engine_args={"a": 1})}) == 4
