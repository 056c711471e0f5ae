"""The NVIDIA GPUs of this host. No other module talks to NVML."""

from __future__ import annotations

import pynvml

from orchestrator.status import Gpu

_MIB = 1024 * 1024


def gpus() -> list[Gpu]:
    """The cards that the driver shows; none if there is no driver. Blocks for milliseconds,
    with a card in trouble for longer."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_read(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _read(index: int) -> Gpu:
    card = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(card)
    return Gpu(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(card)),
        name=_text(pynvml.nvmlDeviceGetName(card)),
        total_mib=memory.total // _MIB,
        used_mib=memory.used // _MIB,
        utilization_percent=_utilization(card),
        temperature_c=_temperature(card),
        used_mib_by_pid=_processes(card),
    )


def _utilization(card: object) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetUtilizationRates(card).gpu)
    except pynvml.NVMLError:
        return None


def _temperature(card: object) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError:
        return None


def _processes(card: object) -> dict[int, int | None]:
    try:
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
    except pynvml.NVMLError:
        return {}
    return {
        process.pid: None if process.usedGpuMemory is None else process.usedGpuMemory // _MIB
        for process in found
    }


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
