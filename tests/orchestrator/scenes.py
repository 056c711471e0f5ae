"""GPUs that are all script and no card."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.gpu.nvml.reader import NvmlReader
from orchestrator.gpu.nvml.snapshot import Snapshot

STANDIN = Path(__file__).parents[1] / "standins" / "pynvml"


def scripted_driver() -> ModuleType:
    """Return the module that takes the place of the driver's C library."""
    path = STANDIN / "pynvml" / "driver.py"
    spec = importlib.util.spec_from_file_location("scripted_driver", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Scene:
    """The NVIDIA driver of this test, as it pleases."""

    def __init__(self, path: Path, driver: ModuleType) -> None:
        self.path = path
        self._driver = driver
        self.show({"uuid": "GPU-a"})

    def show(self, *cards: dict[str, Any], **driver: Any) -> None:
        """From now on these cards are there, and the driver behaves so."""
        self.path.write_text(json.dumps({"cards": cards, **driver}))

    def allocate(self, mib: int, uuid: str = "", pid: int | None = None) -> None:
        self._driver.allocate(self.path, mib, uuid, pid)

    def snapshot(self) -> Snapshot:
        """Return what ew sees of it."""
        return NvmlReader().read()
