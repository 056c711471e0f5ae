"""A container may have been given less memory than its host has."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from orchestrator.system.host_memory import HostMemory, host_memory
from orchestrator.terminal.sizes import GIB, MIB


class Groups:
    """A control group hierarchy (v2) as the kernel shows it."""

    def __init__(self, directory: Path, own: str) -> None:
        self.top = directory / "cgroup"
        self.own_group = directory / "own"
        self.own_group.write_text(f"1:name=systemd:/x\n0::/{own}\n")

    def limit(self, group: str, *, most: int | str, used: int, cached: int = 0) -> None:
        path = self.top / group
        path.mkdir(parents=True, exist_ok=True)
        (path / "memory.max").write_text(f"{most}\n")
        (path / "memory.current").write_text(f"{used}\n")
        (path / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")

    def memory(self) -> HostMemory:
        return host_memory(self.top, self.own_group)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path, "pod/container")


def test_without_limits_it_is_what_the_kernel_says(groups: Groups, tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    assert groups.memory().total == total
    groups.limit("pod/container", most="max", used=0)
    assert groups.memory().total == total
    assert host_memory(tmp_path / "none", tmp_path / "none").total == total


def test_files_in_the_cache_are_not_in_the_way(groups: Groups) -> None:
    groups.limit("pod/container", most=GIB, used=900 * MIB, cached=300 * MIB)
    assert groups.memory() == HostMemory(GIB, 424 * MIB)


def test_the_tightest_group_around_counts(groups: Groups) -> None:
    groups.limit("pod/container", most=GIB, used=0)
    groups.limit("pod", most=2 * GIB, used=2 * GIB - 10 * MIB)
    assert groups.memory() == HostMemory(GIB, 10 * MIB)


def test_a_group_that_is_over_its_limit_has_nothing(groups: Groups) -> None:
    groups.limit("", most=GIB, used=GIB + 1)
    assert groups.memory() == HostMemory(GIB, 0)
