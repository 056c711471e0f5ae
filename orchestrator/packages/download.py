"""How far uv's downloads are, from the lines that it writes. Standard library only."""

from __future__ import annotations

import re
import time
from typing import Final

from orchestrator.terminal.progress import clock

_MIB_BY_UNIT: Final = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 1024.0}
_COUNT = re.compile(r"^(?:Resolved|Audited) (\d+) package")
_ANNOUNCED = re.compile(r"^Downloading (\S+) \(([\d.]+) ?([KMG]?i?B)\)")
_ARRIVED = re.compile(r"^ *Downloaded (\S+)")
_PREPARED = re.compile(r"^Prepared \d+ package")


class PackageDownload:
    """The output of uv so far, as one line of progress."""

    def __init__(self) -> None:
        self.packages = 0
        self.is_unpacked = False
        self._started = time.monotonic()
        self._announced_mib: dict[str, float] = {}
        self._arrived: set[str] = set()

    def read(self, line: str) -> None:
        if found := _COUNT.match(line):
            self.packages = int(found[1])
        elif found := _ANNOUNCED.match(line):
            self._announced_mib[found[1]] = float(found[2]) * _MIB_BY_UNIT[found[3]]
        elif found := _ARRIVED.match(line):
            self._arrived.add(found[1])
        elif _PREPARED.match(line):
            self.is_unpacked = True

    def __str__(self) -> str:
        elapsed = clock(time.monotonic() - self._started)
        if not self.packages:
            return f"looking for the packages ({elapsed})"
        if self.is_unpacked or not self._announced_mib:
            return f"installing {self.packages} packages ({elapsed})"
        all_mib = sum(self._announced_mib.values())
        done_mib = sum(self._announced_mib.get(name, 0.0) for name in self._arrived)
        return (
            f"fetching {self.packages} packages: {done_mib:.0f} of {all_mib:.0f} MiB, "
            f"{len(self._arrived)} of {len(self._announced_mib)} large files ({elapsed})"
        )
