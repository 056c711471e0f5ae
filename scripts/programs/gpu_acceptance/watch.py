"""The GPUs' memory, seen again and again while something happens."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from contract.process.process_table import read_table, tree
from orchestrator.gpu.nvml.reader import NvmlReader
from orchestrator.gpu.nvml.snapshot import Snapshot

MIB = 1024**2


def look() -> Snapshot:
    return NvmlReader().read()


def used_bytes(gpu: int = 0) -> int:
    return look().gpus[gpu].used_mib * MIB


def family(pid: int) -> set[int]:
    """Return a process and all that it started."""
    return {entry.pid for entry in tree(read_table(), [pid])}


def bytes_of(pids: set[int], snapshot: Snapshot | None = None) -> dict[str, int]:
    """Return what these processes have, by the UUID of the GPU."""
    found = {}
    for gpu in (snapshot or look()).gpus:
        used = [each.used_mib or 0 for each in gpu.processes if each.pid in pids]
        if used:
            found[gpu.uuid] = sum(used) * MIB
    return found


class Watch:
    """Samples what a process family has (or, without one, what the first GPU has in use) while
    its block runs; remembers the most and the least."""

    def __init__(self, pids: set[int] | None = None, every_s: float = 0.1) -> None:
        self._pids = pids
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[tuple[float, int]] = []

    @property
    def most_bytes(self) -> int:
        return max((used for _, used in self.samples), default=0)

    def first_below(self, bound_bytes: int) -> float | None:
        """Return when (monotonic seconds) it was first no more than that."""
        return next((at for at, used in self.samples if used <= bound_bytes), None)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        reader = NvmlReader()
        while not self._ended.is_set():
            snapshot = reader.read()
            if self._pids is None:
                used = snapshot.gpus[0].used_mib * MIB
            else:
                used = max(bytes_of(self._pids, snapshot).values(), default=0)
            self.samples.append((time.monotonic(), used))
            self._ended.wait(self._every_s)
