"""Whose the memory is."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Collection, Mapping

from orchestrator.gpu.attribution import GpuUse, attribute
from orchestrator.terminal.sizes import MIB
from tests.orchestrator.scenes import Scene


def uses(scene: Scene, families: Mapping[str, Collection[int]]) -> GpuUse:
    return attribute(scene.snapshot(), families)["GPU-a"]


def test_memory_of_children_is_the_workers(scene: Scene) -> None:
    processes = [{"pid": 11, "mib": 3740}, {"pid": 12, "mib": 60}, {"pid": 21, "mib": 5}]
    scene.show({"uuid": "GPU-a", "processes": processes})
    use = uses(scene, {"a-0": {10, 11, 12}, "b-0": {20, 21}})
    assert use.by_worker == {"a-0": 3800 * MIB, "b-0": 5 * MIB}
    assert use.worker_pids == {"a-0": (11, 12), "b-0": (21,)}
    assert use.foreign == ()


def test_strangers_are_named(scene: Scene) -> None:
    process = subprocess.Popen(["sleep", "61"])
    try:
        scene.show({"uuid": "GPU-a", "processes": [{"pid": process.pid, "mib": 100}]})
        (stranger,) = uses(scene, {"a-0": {os.getpid()}}).foreign
    finally:
        process.kill()
        process.wait()
    assert (stranger.pid, stranger.used_bytes) == (process.pid, 100 * MIB)
    assert (stranger.user, stranger.command) == (getpass.getuser(), "sleep 61")
    assert str(stranger) == f"sleep 61 (pid {process.pid}, user {getpass.getuser()})"


def test_a_stranger_in_another_pid_namespace_is_said_to_be_one(scene: Scene) -> None:
    scene.show({"uuid": "GPU-a", "processes": [{"pid": 4_000_000, "mib": 100}]})
    (stranger,) = uses(scene, {}).foreign
    assert str(stranger) == "pid 4000000, which this system does not show"


def test_unknown_memory_stays_unknown(scene: Scene) -> None:
    scene.show(
        {
            "uuid": "GPU-a",
            "processes": [{"pid": 11, "mib": 1}, {"pid": 12, "mib": 1}],
            "processes_seen": "no_memory",
        }
    )
    assert uses(scene, {"a-0": {11, 12}}).by_worker == {"a-0": None}
