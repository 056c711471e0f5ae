"""The C library of the NVIDIA driver, as a script: cards, memory, processes, and faults.

A scene is a JSON file. Everything but `uuid` has a default:

    {"driver": "ok",            or the NVML error of every question, such as DRIVER_NOT_LOADED
     "hang_s": 0,               every question takes this long
     "interface": 3,            the newest of the versioned functions that there are: 3, 2 or 1
     "release_delay_s": 0,      so long the memory of a process outlives it
     "cards": [{"uuid": "GPU-...", "name": "NVIDIA H200", "total_mib": 143771, "driver_mib": 615,
                "capability": [9, 0],
                "utilization": 0, "temperature": 35,
                "fault": "",        the NVML error that every question about this card gets
                "memory": "ok",     or NOT_SUPPORTED: it works in the host's memory
                "processes_seen": "all",   or "no_memory" (usedGpuMemory is not available),
                                           or "none" (as in a container's pid namespace)
                "processes": [{"pid": 4242, "mib": 1000, "kind": "compute", "instance": [1, 0]}],
                "mig": false,       MIG mode, with or without
                "slices": [{"uuid": "MIG-...", "name": "...", "total_mib": 20000,
                            "instance": [1, 0]}]}]}

Processes may allocate, by appending a line to SCENE.allocations:

    {"pid": 4243, "uuid": "GPU-...", "mib": 3740}        negative to give some back

An allocation counts while its process lives. Without `uuid` it is on the first card.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
SUCCESS = 0
CODES = {
    "UNINITIALIZED": 1,
    "INVALID_ARGUMENT": 2,
    "NOT_SUPPORTED": 3,
    "NO_PERMISSION": 4,
    "NOT_FOUND": 6,
    "INSUFFICIENT_SIZE": 7,
    "DRIVER_NOT_LOADED": 9,
    "LIBRARY_NOT_FOUND": 12,
    "FUNCTION_NOT_FOUND": 13,
    "GPU_IS_LOST": 15,
    "RESET_REQUIRED": 16,
    "LIB_RM_VERSION_MISMATCH": 18,
    "UNKNOWN": 999,
}
NO_INSTANCE = 0xFFFFFFFF
NOT_AVAILABLE = 0xFFFFFFFFFFFFFFFF
#: Handles of slices are those of their card, and their number times this.
SLICE = 1000


class Fault(Exception):
    """The code that the C function returns instead of success."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.code = CODES[name]


class ScriptedDriver:
    """Has the functions of libnvidia-ml.so.1 that ew uses, as ctypes would offer them: out
    parameters are references, the result is a code."""

    def __init__(self) -> None:
        #: As in the real one, a caller may rely on it from its initialisation to its shutdown.
        self._users = 0
        self._died: dict[tuple[int, int], float] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        """Return the C function of that name. One that is not scripted does not exist, as in a
        driver that is too old for it."""
        method = _METHODS.get(name)
        if method is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            try:
                return self._answer(name, method, arguments)
            except Fault as fault:
                return fault.code

        return call

    def _answer(self, name: str, method: str, arguments: tuple[Any, ...]) -> int:
        scene = self._scene()
        time.sleep(scene.get("hang_s", 0))
        if scene.get("driver", "ok") != "ok":
            raise Fault(scene["driver"])
        if _is_too_new(name, scene.get("interface", 3)):
            raise Fault("FUNCTION_NOT_FOUND")
        if not self._users and name != "nvmlInitWithFlags":
            raise Fault("UNINITIALIZED")
        getattr(self, method)(scene, *arguments)
        return SUCCESS

    def _scene(self) -> dict[str, Any]:
        return dict(json.loads(Path(os.environ["PYNVML_SCENE"]).read_text()))

    def _init(self, _: Any, __: Any) -> None:
        self._users += 1

    def _shutdown(self, _: Any) -> None:
        self._users -= 1

    def _version(self, scene: Any, buffer: Any, _: Any) -> None:
        buffer.value = scene.get("driver_version", "580.95.05").encode()

    def _cuda_version(self, scene: Any, out: Any) -> None:
        out._obj.value = scene.get("cuda_version", 13000)

    def _count(self, scene: Any, out: Any) -> None:
        out._obj.value = len(scene.get("cards", []))

    def _by_index(self, scene: Any, index: Any, out: Any) -> None:
        if index.value >= len(scene["cards"]):
            raise Fault("INVALID_ARGUMENT")
        _check(scene["cards"][index.value])
        _set_handle(out, index.value + 1)

    def _by_uuid(self, scene: Any, uuid: Any, out: Any) -> None:
        wanted = uuid.value if hasattr(uuid, "value") else uuid
        for number, card in enumerate(scene["cards"]):
            if card["uuid"].encode() == wanted:
                return _set_handle(out, number + 1)
        raise Fault("NOT_FOUND")

    def _index(self, scene: Any, handle: Any, out: Any) -> None:
        out._obj.value = (_number(handle) - 1) % SLICE

    def _uuid(self, scene: Any, handle: Any, buffer: Any, _: Any) -> None:
        buffer.value = _part(scene, handle)["uuid"].encode()

    def _name(self, scene: Any, handle: Any, buffer: Any, _: Any) -> None:
        buffer.value = _part(scene, handle).get("name", "NVIDIA H200").encode()

    def _capability(self, scene: Any, handle: Any, major: Any, minor: Any) -> None:
        card = _part(scene, handle)
        if "instance" in card or "capability" not in card:
            raise Fault("NOT_SUPPORTED")
        major._obj.value, minor._obj.value = card["capability"]

    def _memory(self, scene: Any, handle: Any, out: Any) -> None:
        total, used = self._usage(scene, handle)
        out._obj.total, out._obj.used, out._obj.free = total, used, total - used

    def _memory_v2(self, scene: Any, handle: Any, out: Any) -> None:
        """Here `used` is without what is reserved, as in the real one."""
        total, used = self._usage(scene, handle)
        reserved = _part(scene, handle).get("driver_mib", 0) * MIB
        out._obj.total, out._obj.reserved = total, reserved
        out._obj.used, out._obj.free = used - reserved, total - used

    def _usage(self, scene: Any, handle: Any) -> tuple[int, int]:
        part = _part(scene, handle)
        if part.get("memory", "ok") != "ok":
            raise Fault(part["memory"])
        inside = [
            entry["mib"]
            for entry in self._processes(scene, _card(scene, handle))
            if part.get("instance") in (None, entry.get("instance"))
        ]
        used = part.get("driver_mib", 0) + sum(inside)
        return part.get("total_mib", 143771) * MIB, used * MIB

    def _compute_processes(self, scene: Any, handle: Any, count: Any, array: Any) -> None:
        self._list(scene, handle, count, array, "compute")

    def _graphics_processes(self, scene: Any, handle: Any, count: Any, array: Any) -> None:
        self._list(scene, handle, count, array, "graphics")

    def _mps_processes(self, scene: Any, handle: Any, count: Any, array: Any) -> None:
        self._list(scene, handle, count, array, "mps")

    def _list(self, scene: Any, handle: Any, count: Any, array: Any, kind: str) -> None:
        card = _part(scene, handle)
        seen = card.get("processes_seen", "all")
        found = [
            entry
            for entry in self._processes(scene, card)
            if kind in entry.get("kind", "compute") and seen != "none"
        ]
        if array is None and found:
            count._obj.value = len(found)
            raise Fault("INSUFFICIENT_SIZE")
        count._obj.value = len(found)
        for slot, entry in zip(array or (), found, strict=False):
            slot.pid = entry["pid"]
            slot.usedGpuMemory = NOT_AVAILABLE if seen == "no_memory" else entry["mib"] * MIB
            instance = entry.get("instance") or (NO_INSTANCE, NO_INSTANCE)
            slot.gpuInstanceId, slot.computeInstanceId = instance

    def _utilization(self, scene: Any, handle: Any, out: Any) -> None:
        card = _part(scene, handle)
        if card.get("mig") or "instance" in card:
            raise Fault("NOT_SUPPORTED")
        out._obj.gpu = card.get("utilization", 0)

    def _temperature(self, scene: Any, handle: Any, _: Any, out: Any) -> None:
        out._obj.value = _part(scene, handle).get("temperature", 35)

    def _mig_mode(self, scene: Any, handle: Any, current: Any, pending: Any) -> None:
        card = _part(scene, handle)
        if "mig" not in card:
            raise Fault("NOT_SUPPORTED")
        current._obj.value = pending._obj.value = int(card["mig"])

    def _mig_count(self, scene: Any, handle: Any, out: Any) -> None:
        out._obj.value = 7

    def _mig_slice(self, scene: Any, handle: Any, index: Any, out: Any) -> None:
        if index.value >= len(_part(scene, handle).get("slices", [])):
            raise Fault("NOT_FOUND")
        _set_handle(out, _number(handle) + SLICE * (index.value + 1))

    def _gpu_instance(self, scene: Any, handle: Any, out: Any) -> None:
        out._obj.value = _part(scene, handle)["instance"][0]

    def _compute_instance(self, scene: Any, handle: Any, out: Any) -> None:
        out._obj.value = _part(scene, handle)["instance"][1]

    def _processes(self, scene: Any, card: Any) -> list[dict[str, Any]]:
        """The processes on a card: those of the scene, and those that have allocated and live."""
        is_first = card["uuid"] == scene["cards"][0]["uuid"]
        places = {card["uuid"]: None} | {
            part["uuid"]: part["instance"] for part in card.get("slices", [])
        }
        found: dict[tuple[int, Any], dict[str, Any]] = {}
        for line in _allocations():
            uuid = line.get("uuid") or (card["uuid"] if is_first else "")
            if uuid in places and self._holds(line, scene.get("release_delay_s", 0)):
                key = (line["pid"], uuid)
                entry = found.setdefault(
                    key, {"pid": line["pid"], "mib": 0, "instance": places[uuid]}
                )
                entry["mib"] += line["mib"]
        return [*card.get("processes", []), *(each for each in found.values() if each["mib"])]

    def _holds(self, allocation: dict[str, Any], release_delay_s: float) -> bool:
        """Return whether a process still has what it allocated: it lives, or has not been dead
        long."""
        key = (allocation["pid"], allocation["start_ticks"])
        now = _start_ticks(allocation["pid"])
        if now is not None and now == allocation["start_ticks"]:
            return True
        died = self._died.setdefault(key, time.monotonic())
        return time.monotonic() - died < release_delay_s


_METHODS = {
    "nvmlInitWithFlags": "_init",
    "nvmlShutdown": "_shutdown",
    "nvmlSystemGetDriverVersion": "_version",
    "nvmlSystemGetCudaDriverVersion": "_cuda_version",
    "nvmlDeviceGetCount_v2": "_count",
    "nvmlDeviceGetHandleByIndex_v2": "_by_index",
    "nvmlDeviceGetHandleByUUID": "_by_uuid",
    "nvmlDeviceGetIndex": "_index",
    "nvmlDeviceGetUUID": "_uuid",
    "nvmlDeviceGetName": "_name",
    "nvmlDeviceGetCudaComputeCapability": "_capability",
    "nvmlDeviceGetMemoryInfo": "_memory",
    "nvmlDeviceGetMemoryInfo_v2": "_memory_v2",
    "nvmlDeviceGetComputeRunningProcesses_v2": "_compute_processes",
    "nvmlDeviceGetComputeRunningProcesses_v3": "_compute_processes",
    "nvmlDeviceGetGraphicsRunningProcesses_v2": "_graphics_processes",
    "nvmlDeviceGetGraphicsRunningProcesses_v3": "_graphics_processes",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": "_mps_processes",
    "nvmlDeviceGetUtilizationRates": "_utilization",
    "nvmlDeviceGetTemperature": "_temperature",
    "nvmlDeviceGetMigMode": "_mig_mode",
    "nvmlDeviceGetMaxMigDeviceCount": "_mig_count",
    "nvmlDeviceGetMigDeviceHandleByIndex": "_mig_slice",
    "nvmlDeviceGetGpuInstanceId": "_gpu_instance",
    "nvmlDeviceGetComputeInstanceId": "_compute_instance",
}
#: The functions of every driver, whatever its number.
_OLD = ("nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2")


def allocate(scene: Path, mib: int, uuid: str = "", pid: int | None = None) -> None:
    """Pretend that a process (this one) takes GPU memory, until it ends."""
    owner = os.getpid() if pid is None else pid
    line = {"pid": owner, "start_ticks": _start_ticks(owner), "uuid": uuid, "mib": mib}
    with scene.with_name(f"{scene.name}.allocations").open("a") as allocations:
        allocations.write(json.dumps(line) + "\n")


def _is_too_new(name: str, interface: int) -> bool:
    version = name.rpartition("_v")[2]
    return name not in _OLD and version.isdigit() and int(version) > interface


def _allocations() -> list[dict[str, Any]]:
    path = Path(os.environ["PYNVML_SCENE"] + ".allocations")
    lines = path.read_text().splitlines() if path.exists() else []
    return [{"start_ticks": _start_ticks(line["pid"]), **line} for line in map(json.loads, lines)]


def _start_ticks(pid: int) -> int | None:
    """Return when a process was started; None if it is gone, or a zombie without memory."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _check(part: dict[str, Any]) -> None:
    if part.get("fault"):
        raise Fault(part["fault"])


def _set_handle(out: Any, number: int) -> None:
    ctypes.c_void_p.from_address(ctypes.addressof(out._obj)).value = number


def _number(handle: Any) -> int:
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0)


def _card(scene: Any, handle: Any) -> dict[str, Any]:
    card = scene["cards"][(_number(handle) - 1) % SLICE]
    _check(card)
    return dict(card)


def _part(scene: Any, handle: Any) -> dict[str, Any]:
    """Return the card or the slice that a handle means."""
    card = _card(scene, handle)
    number = (_number(handle) - 1) // SLICE
    return dict(card["slices"][number - 1]) if number else card
