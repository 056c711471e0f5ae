"""The allocator: which workers may start, with which GPUs and numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.life import Phase
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.terminal.sizes import GIB
from tests.orchestrator.models_on_disk import QWEN2_7B, MakeModel
from tests.orchestrator.scenes import Scene

CARD = {"uuid": "GPU-a", "total_mib": 80 * 1024, "driver_mib": 600}


@pytest.fixture
def allocator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> GpuAllocator:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    scene.show(CARD)
    return GpuAllocator()


def worker(model: str, path: Path | str, replica: int = 0, **settings: Any) -> ReplicaSpec:
    engine = settings.pop("engine", "cuda-vllm")
    version = settings.pop("version", "")
    config = {"engine": engine, "model_path": str(path), "max_model_len": 4096, **settings}
    spec = {"model_id": model, "engine": engine, "env": "e", "model": config}
    return ReplicaSpec(model, replica, engine, "e", "python", 60.0, spec, version)


def test_a_allocation_has_exact_numbers_and_names_the_gpu(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel
) -> None:
    allocator.observed(scene.snapshot(), {})
    one = worker("a", make_model(QWEN2_7B), max_batch_size=16, version="0.26.0")
    assert allocator.reserve([one]) == {}
    assert allocator.obstacle("a-0") is None
    allocation = allocator.start(one)
    assert allocation.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert allocation.spec["kv_cache_bytes"] == (16 * 4096 + 16) * 57_344
    assert allocation.spec["kv_cache_tokens"] == 16 * 4096 + 16
    assert 0.2 < allocation.spec["gpu_memory_fraction"] < 0.3
    assert (allocation.spec["context_len"], allocation.spec["max_sequences"]) == (4096, 16)


@pytest.mark.parametrize(("version", "name"), [("0.20.2", "0"), ("", "0"), ("0.33.0", "GPU-a")])
def test_engines_that_do_not_know_uuids_get_indices(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel, version: str, name: str
) -> None:
    allocator.observed(scene.snapshot(), {})
    one = worker("a", make_model(QWEN2_7B), version=version)
    allocator.reserve([one])
    environment = allocator.start(one).environment
    assert environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": name}


def test_a_refusal_is_an_error_with_a_next_step(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel
) -> None:
    scene.show(CARD | {"total_mib": 10 * 1024})
    allocator.observed(scene.snapshot(), {})
    refused = allocator.reserve([worker("a", make_model(QWEN2_7B))])
    assert "`a` needs" in refused["a-0"].message
    assert "ew estimate" in refused["a-0"].hint


def test_a_damaged_model_is_refused_and_the_others_are_not(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel, tmp_path: Path
) -> None:
    allocator.observed(scene.snapshot(), {})
    (tmp_path / "broken").mkdir()
    both = [worker("a", make_model(QWEN2_7B)), worker("b", tmp_path / "broken")]
    assert list(allocator.reserve(both)) == ["b-0"]
    assert [each.uuid for each in allocator.accounts() if each.workers] == ["GPU-a"]


@pytest.mark.parametrize(
    "args", [{"gpu_memory_utilization": "auto"}, {"cudagraph_capture_sizes": 8}]
)
def test_odd_settings_of_one_model_are_its_own_problem(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel, args: dict[str, Any]
) -> None:
    allocator.observed(scene.snapshot(), {})
    path = make_model(QWEN2_7B)
    odd = worker("odd", path, engine_args=args)
    refused = allocator.reserve([odd, worker("good", path, max_batch_size=4)])
    assert set(refused) == {"odd-0"}
    assert f"`engine_args`: `{next(iter(args))}` is" in refused["odd-0"].message


def test_a_model_that_must_be_downloaded_first_gets_a_gpu_to_itself(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel
) -> None:
    allocator.observed(scene.snapshot(), {})
    unknown = worker("new", "Org/New")
    refused = allocator.reserve([unknown, worker("a", make_model(QWEN2_7B))])
    assert list(refused) == ["a-0"]
    allocation = allocator.start(unknown)
    given = {name: value for name, value in allocation.spec.items() if value is not None}
    assert given == {"gpu_memory_fraction": 0.9}


def test_models_on_demand_get_no_place_but_leave_to_find_one(
    allocator: GpuAllocator, scene: Scene, make_model: MakeModel
) -> None:
    allocator.observed(scene.snapshot(), {})
    path = make_model(QWEN2_7B)
    greedy = worker("a", path, max_batch_size=512, max_model_len=32768)
    assert allocator.reserve([greedy], [worker("b", path, load="on-demand")]) == {}
    (account,) = allocator.accounts()
    (only,) = account.workers
    assert only.slot == "a-0"
    assert account.free_mib - account.promised_mib > 16 * 1024


def test_without_nvml_workers_start_without_an_account(
    allocator: GpuAllocator, scene: Scene
) -> None:
    scene.show(driver="LIBRARY_NOT_FOUND")
    allocator.observed(scene.snapshot(), {})
    one = worker("a", "Org/Model")
    assert allocator.reserve([one]) == {}
    assert allocator.obstacle("a-0") is None
    assert allocator.start(one) == ({}, {})
    assert allocator.settle("a-0", Phase.READY, since=0.0, version="1", load_s=1.0)
    allocator.ended("a-0", returns=False)
    assert "no NVIDIA driver" in allocator.problem


def test_while_a_driver_that_was_there_is_silent_nobody_starts_on_its_gpus(
    allocator: GpuAllocator, scene: Scene
) -> None:
    allocator.observed(scene.snapshot(), {})
    mock = worker("a", "none", engine="mock", engine_args={"allocate_mib": 4096})
    scene.show(driver="DRIVER_NOT_LOADED")
    allocator.observed(scene.snapshot(), {})
    assert allocator.reserve([mock]) == {}
    assert "is not loaded" in (allocator.obstacle("a-0") or "")
    scene.show(CARD)
    allocator.observed(scene.snapshot(), {})
    assert allocator.obstacle("a-0") is None


def test_workers_without_a_gpu_need_no_place(allocator: GpuAllocator, scene: Scene) -> None:
    allocator.observed(scene.snapshot(), {})
    one = worker("a", "none", engine="mock")
    assert allocator.reserve([one]) == {}
    assert allocator.start(one) == ({}, {})


def test_only_the_gpus_that_ew_was_given_are_used(
    allocator: GpuAllocator, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.show(CARD, CARD | {"uuid": "GPU-b"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    allocator.observed(scene.snapshot(), {})
    mock = worker("a", "none", engine="mock", engine_args={"allocate_mib": 1000})
    allocator.reserve([mock])
    assert allocator.start(mock).environment["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    hidden = next(each for each in allocator.accounts() if each.uuid == "GPU-a")
    assert "CUDA_VISIBLE_DEVICES" in hidden.problem


def test_slices_that_ew_was_given_are_used(
    allocator: GpuAllocator, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [
        {"uuid": f"MIG-{number}", "total_mib": 20000, "instance": [number, 0]} for number in (1, 2)
    ]
    scene.show(CARD | {"mig": True, "slices": slices})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    allocator.observed(scene.snapshot(), {})
    mock = worker("a", "none", engine="mock", engine_args={"allocate_mib": 1000})
    allocator.reserve([mock])
    assert allocator.start(mock).environment["CUDA_VISIBLE_DEVICES"] == "MIG-2"


def test_the_account_shows_promises_workers_and_strangers(
    allocator: GpuAllocator, scene: Scene
) -> None:
    scene.show(CARD | {"processes": [{"pid": 4_000_000, "mib": 512}]})
    allocator.observed(scene.snapshot(), {})
    mock = worker("a", "none", engine="mock", engine_args={"allocate_mib": 4096})
    allocator.reserve([mock])
    (account,) = allocator.accounts()
    assert account.total_mib - account.used_mib == account.free_mib
    assert (account.promised_mib, account.free_mib) == (4096, 80 * 1024 - 1112)
    assert [(each.slot, each.stage, each.reserved_mib) for each in account.workers] == [
        ("a-0", "planned", 4096)
    ]
    assert [(each.pid, each.used_mib) for each in account.foreign] == [(4_000_000, 512)]


def test_a_successor_knows_the_places_of_its_predecessor(
    allocator: GpuAllocator, scene: Scene
) -> None:
    allocator.observed(scene.snapshot(), {})
    mock = worker("a", "none", engine="mock", engine_args={"allocate_mib": 4096})
    allocator.reserve([mock])
    allocator.start(mock)
    successor = GpuAllocator()
    successor.adopt({"a-0"})
    successor.observed(scene.snapshot(), {})
    assert [each.slot for each in successor.accounts()[0].workers] == ["a-0"]
    assert successor.accounts()[0].workers[0].reserved_mib * 2**20 == 4 * GIB


def test_a_worker_is_measured_only_by_a_look_at_it(allocator: GpuAllocator, scene: Scene) -> None:
    allocator.observed(scene.snapshot(), {}, taken_at=1.0)
    mock = worker("a", "none", engine="mock", engine_args={"allocate_mib": 4096})
    allocator.reserve([mock])
    allocator.start(mock)
    assert not allocator.settle("a-0", Phase.READY, since=2.0, version="1", load_s=1.0)
    scene.allocate(3000)
    allocator.observed(scene.snapshot(), {"a-0": {os.getpid()}}, taken_at=3.0)
    assert allocator.settle("a-0", Phase.READY, since=2.0, version="1", load_s=1.0)
    (share,) = allocator.accounts()[0].workers
    assert (share.stage, share.used_mib) == ("ready", 3000)
