"""The GPUs of this host, as the NVIDIA driver shows them. No other module calls NVML.

Drivers differ, and parts of them fail: whatever cannot be read is None, and a card that is in
trouble says so and does not hide the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import msgspec
import psutil
import pynvml

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
#: Drivers that load at the first question have taken half a minute; longer, and none is there.
FIRST_ANSWER_S: Final = 60.0
_BROKEN: Final = (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired)
_PROBLEMS: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "there is no NVIDIA driver (no libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated: a reboot is due",
    pynvml.NVML_ERROR_NO_PERMISSION: "the NVIDIA driver may not be asked by this user",
    pynvml.NVML_ERROR_GPU_IS_LOST: "has fallen off the bus (XID 79): the host must be rebooted",
    pynvml.NVML_ERROR_RESET_REQUIRED: "must be reset by an administrator",
}


class GpuProcess(msgspec.Struct, frozen=True):
    """A process on a GPU. `used_mib` is None where the driver does not say."""

    pid: int
    used_mib: int | None
    kind: str = "compute"
    #: The MIG slice that it runs in: its GPU instance and its compute instance.
    instance: tuple[int, int] | None = None


class Gpu(msgspec.Struct, frozen=True):
    """A card, or a MIG slice of one (`parent` is then the card's UUID)."""

    index: int
    uuid: str
    name: str
    total_mib: int = 0
    #: Everything that is not free, what the driver keeps for itself included.
    used_mib: int = 0
    free_mib: int = 0
    reserved_mib: int | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    slices: tuple[Gpu, ...] = ()
    parent: str = ""
    #: Such as `9.0`; empty where it cannot be asked.
    compute_capability: str = ""
    #: It works in the host's memory, and these figures are the host's.
    is_unified: bool = False
    #: Why it cannot be used; empty if it can.
    problem: str = ""

    @property
    def places(self) -> tuple[Gpu, ...]:
        """Where workers can run: on the card, or instead on its slices."""
        return self.slices or (self,)


class Snapshot(msgspec.Struct, frozen=True):
    """All GPUs at one moment. `problem` says why they are not known, or not up to date."""

    #: Monotonic seconds.
    taken_at: float
    gpus: tuple[Gpu, ...] = ()
    driver_version: str = ""
    #: The newest version of CUDA that the driver supports, such as `12.8`.
    cuda_version: str = ""
    problem: str = ""
    #: The driver has never answered yet, and may still do so: it is not known what there is.
    is_pending: bool = False

    @property
    def places(self) -> tuple[Gpu, ...]:
        return tuple(place for gpu in self.gpus for place in gpu.places)


class Nvml:
    """Asks in a thread of its own: a card in trouble can hang the driver for minutes, and nothing
    else shall hang with it."""

    def __init__(self) -> None:
        self._reader = NvmlReader()
        self._pending: Future[Snapshot] | None = None
        self._last: Snapshot | None = None
        self._began = time.monotonic()

    def snapshot(self, timeout_s: float = 5.0) -> Snapshot:
        """Return the GPUs as of now. If NVML does not answer in time: as they were last seen,
        and the problem; the next call then waits for the same answer. Not for several threads."""
        if self._pending is None:
            self._pending = _in_thread(self._reader.read)
        try:
            self._last = self._pending.result(timeout_s)
        except TimeoutError:
            return self._without_answer()
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return self._last

    def _without_answer(self) -> Snapshot:
        if self._last is not None:
            age_s = time.monotonic() - self._last.taken_at
            problem = f"NVML does not answer: these figures are {age_s:.0f} s old"
            return msgspec.structs.replace(self._last, problem=problem)
        waited_s = time.monotonic() - self._began
        problem = f"NVML has not answered for {waited_s:.0f} s"
        return Snapshot(time.monotonic(), problem=problem, is_pending=waited_s < FIRST_ANSWER_S)


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


def restricted(snapshot: Snapshot, visible_devices: str | None) -> Snapshot:
    """The same, with the GPUs marked that CUDA_VISIBLE_DEVICES keeps from us: the user may
    have been given only some of them. None means all."""
    if visible_devices is None:
        return snapshot
    names = [name.strip() for name in visible_devices.split(",") if name.strip()]
    gpus = tuple(_restricted(gpu, names) for gpu in snapshot.gpus)
    return msgspec.structs.replace(snapshot, gpus=gpus)


def _restricted(gpu: Gpu, names: list[str]) -> Gpu:
    if any(gpu.uuid.startswith(name) or str(gpu.index) == name for name in names):
        return gpu
    slices = tuple(_restricted(each, [n for n in names if not n.isdigit()]) for each in gpu.slices)
    problem = gpu.problem or "is not among the CUDA_VISIBLE_DEVICES that ew was given"
    return msgspec.structs.replace(gpu, problem=problem, slices=slices)


def _in_thread(read: Callable[[], Snapshot]) -> Future[Snapshot]:
    """Run it in a daemon thread: nothing waits for it, not even the exit of the process."""
    future: Future[Snapshot] = Future()

    def run() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="nvml", daemon=True).start()
    return future


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
