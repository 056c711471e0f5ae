"""A stand-in for NVIDIA's driver library: devices that do not exist, for tests without a GPU."""

from __future__ import annotations

import os
from types import SimpleNamespace


class NVMLError(Exception):
    pass


def nvmlInit() -> None:
    pass


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return int(os.environ.get("PYNVML_STANDIN_GPUS", "1"))


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(device: int) -> str:
    return "Stand-in GPU"


def nvmlDeviceGetUUID(device: int) -> str:
    return f"GPU-stand-in-{device}"


def nvmlDeviceGetCudaComputeCapability(device: int) -> tuple[int, int]:
    major, minor = os.environ.get("PYNVML_STANDIN_CAPABILITY", "9.0").split(".")
    return int(major), int(minor)


def nvmlDeviceGetMemoryInfo(device: int) -> SimpleNamespace:
    total = int(os.environ.get("PYNVML_STANDIN_MIB", "81920")) * 2**20
    used = int(os.environ.get("PYNVML_STANDIN_USED_MIB", "0")) * 2**20
    return SimpleNamespace(total=total, used=used, free=total - used)


def nvmlSystemGetDriverVersion() -> str:
    return "580.65.06"


def nvmlSystemGetCudaDriverVersion() -> int:
    return 13000
