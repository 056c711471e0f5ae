"""How the script was called, and what it runs on."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from installation import Installation
from watch import MIB, look

from orchestrator.estimate.running import Card

#: Not among the results: their files look large, though they are all hole.
MODELS = Path(tempfile.gettempdir()) / "ew-acceptance-models"
#: Of an H200, and of the scripted driver's cards.
CARD_MIB = 143771


class Setting(NamedTuple):
    """How the script was called."""

    out: Path
    is_mock: bool
    only: tuple[str, ...]
    deadline: float
    #: Combinations of the piece `estimate` that run at once on each GPU, each on its part of it.
    at_once: int = 1

    def installation(self, name: str, gpus: int = 1) -> Installation:
        cards = [
            {"uuid": f"GPU-mock-{number}", "total_mib": CARD_MIB, "driver_mib": 615}
            for number in range(gpus)
        ]
        return Installation(self.out / f"logs-{name}", cards if self.is_mock else None)

    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    def card(self) -> Card:
        """The card that the pieces run on."""
        return H200 if self.is_mock else card_of(look().gpus[0])


H200 = Card("", CARD_MIB * MIB)


def card_of(gpu: Any) -> Card:
    return Card(gpu.name, gpu.total_mib * MIB)


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not here"
