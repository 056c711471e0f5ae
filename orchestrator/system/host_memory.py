"""The memory of this host, as far as ew may use it: a container may have been given less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")


class HostMemory(NamedTuple):
    """In bytes; `available` is what can be had without anything being swapped or killed."""

    total: int
    available: int


def host_memory(groups: Path = _GROUPS, own_group: Path = _OWN_GROUP) -> HostMemory:
    """Return the tightest of what the kernel has and what control groups (v2) around us allow."""
    memory = psutil.virtual_memory()
    bounds = [HostMemory(memory.total, memory.available), *_limits(groups, own_group)]
    return HostMemory(min(each.total for each in bounds), min(each.available for each in bounds))


def _limits(groups: Path, own_group: Path) -> Iterator[HostMemory]:
    try:
        lines = own_group.read_text().splitlines()
    except OSError:
        return
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    for own in (groups / name for name in names):
        for group in (own, *own.parents):
            if group.is_relative_to(groups):
                yield from _limit(group)


def _limit(group: Path) -> Iterator[HostMemory]:
    """Yield what a group allows; nothing if it sets no limit."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    # The kernel drops cached files before it refuses memory.
    cached = int(stat.get("inactive_file", 0))
    yield HostMemory(limit, max(0, limit - used + cached))
