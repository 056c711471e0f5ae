"""Writes the last hour of GPUs and models down, for plots."""

from __future__ import annotations

import time

import msgspec

from contract.logs.rotation import open_privately
from contract.supervision.history import (
    MOST_SAMPLES,
    SAMPLE_EVERY_S,
    GpuSample,
    ModelSample,
    Sample,
    history_path,
    read_history,
)
from contract.supervision.status import RunStatus
from orchestrator.system.files import write_atomically


class HistoryWriter:
    """Appends a sample now and then. It survives a restart of the supervisor, as the file does."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._lines: int | None = None

    def note(self, status: RunStatus) -> None:
        """Append a sample if it is time. Raises `OSError`."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + SAMPLE_EVERY_S
        if self._lines is None or self._lines >= 2 * MOST_SAMPLES:
            self._shorten()
        with open_privately(history_path()) as file:
            file.write(msgspec.json.encode(_sample(status)) + b"\n")
        self._lines = (self._lines or 0) + 1

    def _shorten(self) -> None:
        """Keep the last hour alone. Nothing of it is worth the disk's time."""
        kept = read_history()[-MOST_SAMPLES:]
        text = b"".join(msgspec.json.encode(each) + b"\n" for each in kept)
        write_atomically(history_path(), text, is_synced=False)
        self._lines = len(kept)


def _sample(status: RunStatus) -> Sample:
    return Sample(
        at_unix_s=round(status.written_unix_s, 1),
        gpus={
            gpu.uuid: GpuSample(gpu.used_mib, gpu.utilization_percent, gpu.temperature_c)
            for gpu in status.gpus
        },
        models={
            model.id: ModelSample(
                model.running,
                model.waiting,
                model.tokens_per_s,
                model.first_token_p50_s,
                model.first_token_p99_s,
            )
            for model in status.models
        },
    )
