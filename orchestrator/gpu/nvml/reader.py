"""Reading of all GPUs through NVML.

Drivers differ, and parts of them fail: whatever cannot be read is None, and a card that is in
trouble says so and does not hide the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import psutil
import pynvml

from orchestrator.gpu.nvml.snapshot import Gpu, GpuProcess, Snapshot
from orchestrator.terminal.sizes import MIB

#: NVML's word for a process that runs in no MIG slice.
_NO_INSTANCE: Final = 0xFFFFFFFF
#: Each interface by the kind of process, the newest first; a driver knows those of its time.
_PROCESS_LISTS: Final = {
    "compute": (
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetComputeRunningProcesses_v2",
    ),
    "graphics": (
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v2",
    ),
    "mps": ("nvmlDeviceGetMPSComputeRunningProcesses_v3",),
}
_BROKEN: Final = (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired)
_PROBLEMS: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "there is no NVIDIA driver (no libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated: a reboot is due",
    pynvml.NVML_ERROR_NO_PERMISSION: "the NVIDIA driver may not be asked by this user",
    pynvml.NVML_ERROR_GPU_IS_LOST: "has fallen off the bus (XID 79): the host must be rebooted",
    pynvml.NVML_ERROR_RESET_REQUIRED: "must be reset by an administrator",
}


class NvmlReader:
    """Asks at once, and blocks for as long as the driver likes. For one thread at a time."""

    def __init__(self) -> None:
        self._is_open = False
        #: The cards as they were when they last answered.
        self._known: dict[int, Gpu] = {}

    def read(self) -> Snapshot:
        """Never raises what NVML raises."""
        now = time.monotonic()
        try:
            self._open()
            version = _text(pynvml.nvmlSystemGetDriverVersion())
            cuda = _ask(pynvml.nvmlSystemGetCudaDriverVersion) or 0
            count = pynvml.nvmlDeviceGetCount()
            gpus = tuple(self._card(index) for index in range(count))
        except pynvml.NVMLError as error:
            self._close()
            return Snapshot(now, tuple(self._known.values()), problem=_explain(error))
        return Snapshot(now, gpus, version, f"{cuda // 1000}.{cuda % 1000 // 10}")

    def _open(self) -> None:
        if not self._is_open:
            pynvml.nvmlInit()
            self._is_open = True

    def _close(self) -> None:
        """Begin anew with the next reading: the driver may have been reloaded meanwhile."""
        self._is_open = False
        _ask(pynvml.nvmlShutdown)

    def _card(self, index: int) -> Gpu:
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            gpu = self._read_card(handle, index)
        except pynvml.NVMLError as error:
            known = self._known.get(index) or Gpu(index, f"GPU-unknown-{index}", "unknown GPU")
            return msgspec.structs.replace(known, problem=_explain(error), processes=(), slices=())
        self._known[index] = gpu
        return gpu

    def _read_card(self, handle: Any, index: int) -> Gpu:
        gpu = _read_memory(
            handle, Gpu(index, _text(pynvml.nvmlDeviceGetUUID(handle)), _name(handle))
        )
        utilization = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
        processes = _read_processes(handle)
        is_divided = _is_divided(handle)
        capability = _capability(handle)
        slices = _read_slices(handle, gpu, processes) if is_divided else ()
        slices = tuple(_with_capability(each, capability) for each in slices)
        return msgspec.structs.replace(
            gpu,
            utilization_percent=None if utilization is None else int(utilization.gpu),
            temperature_c=_ask(
                pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
            ),
            processes=processes,
            slices=slices,
            compute_capability=capability,
            problem="is in MIG mode and has no slices" if is_divided and not slices else "",
        )


def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what NVML answers; None if this card or driver does not support the question."""
    try:
        return function(*arguments)
    except _BROKEN:
        raise
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None


def _read_memory(handle: Any, gpu: Gpu) -> Gpu:
    """Return its memory; where the driver does not support the question, the GPU works in the
    host's."""
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    reserved = None if memory is None else memory.reserved // MIB
    try:
        memory = memory or pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:
        host = psutil.virtual_memory()
        total, free, is_unified = host.total // MIB, host.available // MIB, True
    else:
        total, free, is_unified = memory.total // MIB, memory.free // MIB, False
    return msgspec.structs.replace(
        gpu,
        total_mib=total,
        # The two interfaces differ in whether `used` includes what is reserved.
        used_mib=total - free,
        free_mib=free,
        reserved_mib=reserved,
        is_unified=is_unified,
    )


def _read_processes(handle: Any) -> tuple[GpuProcess, ...]:
    """The processes on the card. One that computes and draws is in two lists, with the same
    memory."""
    found: dict[tuple[int, tuple[int, int] | None], GpuProcess] = {}
    for kind, functions in _PROCESS_LISTS.items():
        for entry in _first_answer(functions, handle):
            process = _process(entry, kind)
            known = found.setdefault((process.pid, process.instance), process)
            if (process.used_mib or 0) > (known.used_mib or 0):
                found[process.pid, process.instance] = process
    return tuple(sorted(found.values(), key=lambda process: process.pid))


def _first_answer(functions: tuple[str, ...], handle: Any) -> list[Any]:
    for name in functions:
        answer = _ask(getattr(pynvml, name), handle)
        if answer is not None:
            return list(answer)
    return []


def _process(entry: Any, kind: str) -> GpuProcess:
    used = entry.usedGpuMemory
    instance = (entry.gpuInstanceId, entry.computeInstanceId)
    return GpuProcess(
        pid=entry.pid,
        used_mib=None if used is None else used // MIB,
        kind=kind,
        instance=None if _NO_INSTANCE in instance else instance,
    )


def _is_divided(handle: Any) -> bool:
    mode = _ask(pynvml.nvmlDeviceGetMigMode, handle)
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def _read_slices(handle: Any, card: Gpu, processes: tuple[GpuProcess, ...]) -> tuple[Gpu, ...]:
    count = _ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    # Numbers without a slice answer that there is none.
    slices = (_ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, i) for i in range(count))
    return tuple(_read_slice(each, card, processes) for each in slices if each is not None)


def _read_slice(handle: Any, card: Gpu, processes: tuple[GpuProcess, ...]) -> Gpu:
    instance = (
        _ask(pynvml.nvmlDeviceGetGpuInstanceId, handle),
        _ask(pynvml.nvmlDeviceGetComputeInstanceId, handle),
    )
    uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    gpu = _read_memory(handle, Gpu(card.index, uuid, _name(handle), parent=card.uuid))
    inside = tuple(process for process in processes if process.instance == instance)
    return msgspec.structs.replace(gpu, processes=inside)


def _capability(handle: Any) -> str:
    found = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    return "" if found is None else f"{found[0]}.{found[1]}"


def _with_capability(gpu: Gpu, capability: str) -> Gpu:
    """Return a slice with its card's capability: a slice cannot be asked itself."""
    return msgspec.structs.replace(gpu, compute_capability=capability)


def _name(handle: Any) -> str:
    return _text(_ask(pynvml.nvmlDeviceGetName, handle) or "NVIDIA GPU")


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _explain(error: Any) -> str:
    return _PROBLEMS.get(error.value, f"NVML: {error}")
