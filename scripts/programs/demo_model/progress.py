"""A training that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import torch

#: How many steps are lost at most.
EVERY_STEPS: Final = 100


class Progress:
    """The file that keeps a training: its weights, its optimizer, and how far it is. `what`
    says which training it is; the progress of another one is not gone on with."""

    def __init__(self, file: Path, **what: Any) -> None:
        self._file = file
        described = json.dumps(what, sort_keys=True, default=str)
        self._what = hashlib.sha256(described.encode()).hexdigest()

    def load(self, *parts: Any) -> int:
        """Set the state of model, optimizer and schedule, if there is some. Return how many steps
        were done."""
        if not self._file.exists():
            return 0
        kept = torch.load(self._file, map_location="cpu", weights_only=True)
        if kept["what"] != self._what:
            print(f"{self._file} is of another training: this one begins anew")
            return 0
        for part, state in zip(parts, kept["states"], strict=True):
            part.load_state_dict(state)
        print(f"going on after step {kept['step']}, which {self._file} has")
        return int(kept["step"])

    def save(self, step: int, *parts: Any) -> None:
        """Keep the state, in place of an earlier one, as a whole."""
        states = [part.state_dict() for part in parts]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        torch.save({"what": self._what, "step": step, "states": states}, new)
        new.replace(self._file)

    def forget(self) -> None:
        """The training is complete."""
        self._file.unlink(missing_ok=True)
