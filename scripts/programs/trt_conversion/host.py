"""The host: GPUs, memory, disk, and the versions that a plan depends on."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from programs.trt_conversion.problem import Problem


class Gpu(NamedTuple):
    name: str
    compute_capability: str
    total_bytes: int
    free_bytes: int


class Driver(NamedTuple):
    version: str
    cuda: str


def gpus() -> list[Gpu]:
    """Return the GPUs that the driver shows; none without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def require_gpus(found: list[Gpu], ranks: int) -> list[Gpu]:
    """Return the GPUs that a plan for `ranks` of them is built on. Raises `Problem`."""
    if not found:
        raise Problem(
            "no NVIDIA GPU is seen: a plan is compiled on the kind of GPU that will run it",
            "`nvidia-smi` must list it; run the conversion on the machine that will serve",
        )
    if len(found) < ranks:
        raise Problem(
            f"--tp-size times --pp-size is {ranks}, and this host has {len(found)} GPU"
            f"{'s' if len(found) > 1 else ''}"
        )
    return found[:ranks]


def driver() -> Driver:
    import pynvml

    try:
        pynvml.nvmlInit()
        number = pynvml.nvmlSystemGetCudaDriverVersion()
        return Driver(
            _text(pynvml.nvmlSystemGetDriverVersion()), f"{number // 1000}.{number % 1000 // 10}"
        )
    except pynvml.NVMLError:
        return Driver("", "")


def installed_version() -> str | None:
    """Of TensorRT-LLM, without importing it, which takes long."""
    for name in ("tensorrt-llm", "tensorrt_llm"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def available_memory_bytes() -> int:
    """Of the host, as the kernel estimates it."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


def free_disk_bytes(path: Path) -> int:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _gpu(index: int) -> Gpu:
    import pynvml

    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(device)
    name = _text(pynvml.nvmlDeviceGetName(device))
    return Gpu(name, f"{major}.{minor}", int(memory.total), int(memory.free))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
