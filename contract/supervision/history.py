"""The last hour of GPUs and models: samples that a supervisor appends to a file, and that
any process may read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from contract.messages import UNREADABLE
from contract.paths import state_dir

SAMPLE_EVERY_S: Final = 10.0
KEPT_S: Final = 3600.0
#: Lines of the last hour; the file has twice as many at most.
MOST_SAMPLES: Final = int(KEPT_S / SAMPLE_EVERY_S)


class GpuSample(msgspec.Struct, frozen=True, array_like=True):
    """A GPU at one moment; what is not known is None."""

    used_mib: int
    utilization_percent: int | None = None
    temperature_c: int | None = None


class ModelSample(msgspec.Struct, frozen=True, array_like=True):
    """A model at one moment: jobs that run and wait, tokens in a second, and the time to the first
    token in the last minutes."""

    running: int
    waiting: int | None
    tokens_per_s: float
    first_token_p50_s: float | None = None
    first_token_p99_s: float | None = None


class Sample(msgspec.Struct, frozen=True):
    """One moment. GPUs are by UUID, models by id."""

    at_unix_s: float
    gpus: dict[str, GpuSample] = {}
    models: dict[str, ModelSample] = {}


_decode = msgspec.json.Decoder(Sample).decode


def history_path() -> Path:
    return state_dir() / "history.jsonl"


def read_history() -> list[Sample]:
    """Return the samples of the last hour, the oldest first. A line that cannot be read, such as
    one that was cut by a power failure, is left out."""
    try:
        lines = history_path().read_bytes().splitlines()
    except FileNotFoundError:
        return []
    since = time.time() - KEPT_S
    return [each for line in lines if (each := _read(line)) and each.at_unix_s >= since]


def _read(line: bytes) -> Sample | None:
    try:
        return _decode(line)
    except UNREADABLE:
        return None
