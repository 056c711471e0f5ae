"""What is made of the driver's answers."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from orchestrator.gpu import gpus

MIB = 1024 * 1024


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert gpus() == []


def test_a_card_is_described_as_far_as_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*arguments: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    processes = [
        SimpleNamespace(pid=7, usedGpuMemory=512 * MIB),
        SimpleNamespace(pid=8, usedGpuMemory=None),
    ]
    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=1024 * MIB, used=600 * MIB),
        "nvmlDeviceGetUUID": b"GPU-1",
        "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetComputeRunningProcesses": processes,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *arguments, answer=answer: answer)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", unsupported)
    (card,) = gpus()
    assert (card.uuid, card.total_mib, card.used_mib) == ("GPU-1", 1024, 600)
    assert card.utilization_percent is None
    assert card.temperature_c == 41
    assert card.used_mib_by_pid == {7: 512, 8: None}
