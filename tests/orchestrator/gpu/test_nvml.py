"""The GPUs as ew sees them, whatever the driver knows, hides or loses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orchestrator.gpu.nvml import client, reader
from orchestrator.gpu.nvml.client import Nvml
from orchestrator.gpu.nvml.snapshot import GpuProcess
from tests.orchestrator.scenes import STANDIN, Scene

ROOT = Path(__file__).parents[3]


def test_a_card_and_its_processes(scene: Scene) -> None:
    scene.show(
        {
            "uuid": "GPU-a",
            "name": "NVIDIA H200",
            "total_mib": 143771,
            "driver_mib": 615,
            "utilization": 37,
            "temperature": 51,
            "processes": [{"pid": 7, "mib": 3740}, {"pid": 8, "mib": 10, "kind": "graphics"}],
        }
    )
    snapshot = scene.snapshot()
    (gpu,) = snapshot.gpus
    assert (snapshot.problem, snapshot.driver_version) == ("", "580.95.05")
    assert (gpu.index, gpu.uuid, gpu.name) == (0, "GPU-a", "NVIDIA H200")
    assert (gpu.total_mib, gpu.used_mib, gpu.free_mib) == (143771, 4365, 139406)
    assert gpu.reserved_mib == 615
    assert (gpu.utilization_percent, gpu.temperature_c) == (37, 51)
    assert gpu.processes == (GpuProcess(7, 3740), GpuProcess(8, 10, "graphics"))


def test_a_process_that_computes_and_draws_counts_once(scene: Scene) -> None:
    scene.show({"uuid": "GPU-a", "processes": [{"pid": 7, "mib": 100, "kind": "compute graphics"}]})
    (process,) = scene.snapshot().gpus[0].processes
    assert (process.pid, process.used_mib) == (7, 100)


@pytest.mark.parametrize("interface", [3, 2, 1])
def test_older_drivers_answer_what_they_can(scene: Scene, interface: int) -> None:
    scene.show(
        {"uuid": "GPU-a", "driver_mib": 500, "processes": [{"pid": 7, "mib": 100}]},
        interface=interface,
    )
    (gpu,) = scene.snapshot().gpus
    assert gpu.used_mib == 600
    assert gpu.reserved_mib == (500 if interface >= 2 else None)
    assert len(gpu.processes) == (1 if interface >= 2 else 0)


def test_memory_of_a_process_that_is_not_told_is_unknown_not_zero(scene: Scene) -> None:
    scene.show(
        {"uuid": "GPU-a", "processes": [{"pid": 7, "mib": 100}], "processes_seen": "no_memory"}
    )
    assert scene.snapshot().gpus[0].processes == (GpuProcess(7, None),)


def test_slices_are_places_and_hold_their_own_processes(scene: Scene) -> None:
    slices = [
        {"uuid": f"MIG-{number}", "total_mib": 20000, "instance": [number, 0]} for number in (1, 2)
    ]
    scene.show(
        {
            "uuid": "GPU-a",
            "mig": True,
            "slices": slices,
            "capability": [9, 0],
            "processes": [{"pid": 7, "mib": 100, "instance": [2, 0]}],
        },
        {"uuid": "GPU-b"},
    )
    snapshot = scene.snapshot()
    assert [place.uuid for place in snapshot.places] == ["MIG-1", "MIG-2", "GPU-b"]
    empty, used, _ = snapshot.places
    assert (used.parent, used.total_mib, used.used_mib) == ("GPU-a", 20000, 100)
    assert [process.pid for process in used.processes] == [7]
    assert (empty.used_mib, empty.processes) == (0, ())
    assert [place.compute_capability for place in snapshot.places] == ["9.0", "9.0", ""]
    # Utilisation is not supported where there are slices.
    assert used.utilization_percent is None
    assert snapshot.gpus[0].utilization_percent is None


def test_a_card_in_mig_mode_without_slices_is_no_place(scene: Scene) -> None:
    scene.show({"uuid": "GPU-a", "mig": True})
    assert "no slices" in scene.snapshot().places[0].problem


def test_a_card_that_shares_the_hosts_memory_shows_the_hosts(scene: Scene) -> None:
    scene.show({"uuid": "GPU-a", "memory": "NOT_SUPPORTED"})
    (gpu,) = scene.snapshot().gpus
    assert gpu.is_unified
    assert gpu.total_mib == psutil.virtual_memory().total // 2**20


def test_a_lost_card_keeps_its_name_and_does_not_hide_the_others(scene: Scene) -> None:
    from orchestrator.gpu.nvml.reader import NvmlReader

    reader = NvmlReader()
    scene.show({"uuid": "GPU-a", "name": "NVIDIA A100"}, {"uuid": "GPU-b"})
    reader.read()
    scene.show({"uuid": "GPU-a", "fault": "GPU_IS_LOST"}, {"uuid": "GPU-b"})
    lost, well = reader.read().gpus
    assert (lost.uuid, lost.name) == ("GPU-a", "NVIDIA A100")
    assert "fallen off the bus" in lost.problem
    assert (well.uuid, well.problem) == ("GPU-b", "")


def test_a_card_that_was_lost_before_we_looked_is_listed_all_the_same(scene: Scene) -> None:
    scene.show({"uuid": "GPU-a", "fault": "GPU_IS_LOST"}, {"uuid": "GPU-b"})
    lost, well = scene.snapshot().gpus
    assert lost.problem
    assert well.uuid == "GPU-b"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        ("LIBRARY_NOT_FOUND", "there is no NVIDIA driver"),
        ("DRIVER_NOT_LOADED", "is not loaded"),
        ("LIB_RM_VERSION_MISMATCH", "a reboot is due"),
        ("NO_PERMISSION", "may not be asked by this user"),
        ("UNKNOWN", "NVML: "),
    ],
)
def test_a_driver_that_does_not_work_is_a_problem_not_a_crash(
    scene: Scene, error: str, problem: str
) -> None:
    scene.show(driver=error)
    snapshot = scene.snapshot()
    assert snapshot.gpus == ()
    assert problem in snapshot.problem


def test_a_driver_that_comes_back_is_found_again(scene: Scene) -> None:
    nvml = Nvml()
    scene.show({"uuid": "GPU-a"})
    assert nvml.snapshot().problem == ""
    scene.show(driver="DRIVER_NOT_LOADED")
    gone = nvml.snapshot()
    assert (gone.problem, gone.gpus[0].uuid) == ("the NVIDIA driver is not loaded", "GPU-a")
    scene.show({"uuid": "GPU-a"})
    assert nvml.snapshot().problem == ""


def test_a_driver_that_hangs_holds_nobody_up(scene: Scene) -> None:
    nvml = Nvml()
    scene.show({"uuid": "GPU-a"})
    nvml.snapshot()
    scene.show({"uuid": "GPU-b"}, hang_s=0.5)
    began = time.monotonic()
    stale = nvml.snapshot(timeout_s=0.05)
    assert time.monotonic() - began < 0.5, "it waited for the driver"
    assert "does not answer" in stale.problem
    assert stale.gpus[0].uuid == "GPU-a"
    assert nvml.snapshot(timeout_s=30).gpus[0].uuid == "GPU-b"


def test_a_driver_that_has_never_answered_is_waited_for_but_not_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.show({"uuid": "GPU-a"}, hang_s=0.5)
    nvml = Nvml()
    early = nvml.snapshot(timeout_s=0.01)
    assert early.is_pending
    assert "NVML has not answered" in early.problem
    monkeypatch.setattr(client, "FIRST_ANSWER_S", 0.0)
    assert not nvml.snapshot(timeout_s=0.01).is_pending
    answer = nvml.snapshot(timeout_s=30)
    assert (answer.is_pending, answer.gpus[0].uuid) == (False, "GPU-a")


def test_what_no_driver_should_say_does_not_end_all_looking(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.show({"uuid": "GPU-a"})
    nvml = Nvml()
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_text", lambda value: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            nvml.snapshot()
    assert nvml.snapshot().gpus[0].uuid == "GPU-a"


def test_the_standin_is_the_real_bindings_over_a_scripted_driver(scene: Scene) -> None:
    """In a process of its own, as under a real supervisor."""
    scene.show({"uuid": "GPU-a", "driver_mib": 10}, {"uuid": "GPU-b", "fault": "GPU_IS_LOST"})
    script = """
import pynvml, sys
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
print(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetMemoryInfo(handle).used)
try:
    pynvml.nvmlDeviceGetHandleByIndex(1)
except pynvml.NVMLError_GpuIsLost as error:
    print(error.value == pynvml.NVML_ERROR_GPU_IS_LOST, error)
"""
    paths = [str(STANDIN), str(ROOT), *(path for path in sys.path if path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"GPU-a {10 * 2**20}", "True GPU is lost"]


def test_what_a_process_allocates_is_there_until_it_ends(scene: Scene) -> None:
    process = subprocess.Popen(["sleep", "60"])
    scene.show({"uuid": "GPU-a"}, {"uuid": "GPU-b"})
    scene.allocate(1000, "GPU-b", process.pid)
    scene.allocate(500, "GPU-b", process.pid)
    first, second = scene.snapshot().gpus
    assert (first.used_mib, second.used_mib) == (0, 1500)
    assert second.processes == (GpuProcess(process.pid, 1500),)
    process.kill()
    process.wait()
    assert scene.snapshot().gpus[1].used_mib == 0


def test_a_process_may_leave_out_when_it_was_started(scene: Scene) -> None:
    process = subprocess.Popen(["sleep", "60"])
    scene.show({"uuid": "GPU-a"})
    allocations = scene.path.with_name(f"{scene.path.name}.allocations")
    allocations.write_text(f'{{"pid": {process.pid}, "mib": 100}}\n')
    assert scene.snapshot().gpus[0].used_mib == 100
    process.kill()
    process.wait()
    assert scene.snapshot().gpus[0].used_mib == 0
