"""Footprints: the measured memory and load times of models, which are better than estimates."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Final

import msgspec

from contract.config import ModelConfig
from contract.messages import UNREADABLE
from contract.paths import state_dir
from orchestrator.estimate.parts import SPARE_BYTES
from orchestrator.system.files import write_atomically

log = logging.getLogger(__name__)
#: How much the newest load time counts, against those before it.
_NEWEST_WEIGHT: Final = 0.5
#: Keys that change neither a model's memory nor its load time.
_IRRELEVANT: Final = frozenset(
    {"env", "gpus", "idle_unload_s", "load", "pinned", "replicas", "sleep", "start_timeout_s"}
    | {"share_prefix_cache", "tool_parser", "reasoning_parser"}
)


def footprints_path() -> Path:
    return state_dir() / "footprints.json"


class Footprint(msgspec.Struct, frozen=True):
    """Bytes on the fullest GPU of a worker, without its KV cache: when it had just become ready,
    and the most that was ever seen. Of `unseen_bytes` the estimate says that they come on top of
    the former with the first requests."""

    engine: str
    version: str
    ready_bytes: int
    peak_bytes: int
    unseen_bytes: int
    load_s: float
    starts: int = 1
    measured_unix_s: float = 0.0

    @property
    def fixed_bytes(self) -> int:
        """The bytes to reserve for it beside its KV cache."""
        return max(self.peak_bytes, self.ready_bytes + self.unseen_bytes) + SPARE_BYTES


def footprint_key(model: ModelConfig, engine: str, card_name: str) -> str:
    """Return a name made of all that decides a worker's memory, but for the engine's version."""
    settings = model.model_dump(mode="json", exclude=set(_IRRELEVANT), exclude_defaults=True)
    facts = msgspec.json.encode([settings, engine, card_name], order="deterministic")
    return hashlib.sha256(facts).hexdigest()[:24]


class Footprints:
    """Kept in a file, by key. One writer; others may read the file at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)

    def get(self, key: str, version: str = "") -> Footprint | None:
        """Return what was measured; None if nothing was, or only with another version of the
        engine."""
        found = self._known.get(key)
        is_other = found is not None and version and found.version != version
        return None if is_other else found

    def learn(self, key: str, measured: Footprint) -> Footprint:
        """Remember a start. Returns what is known now."""
        former = self.get(key, measured.version)
        merged = _stamped(measured) if former is None else _merged(former, measured)
        self._known[key] = merged
        self._write()
        return merged

    def saw(self, key: str, used_bytes: int) -> None:
        """It has this much now. Written down if it never had as much before."""
        known = self._known.get(key)
        if known is not None and used_bytes > known.peak_bytes:
            self._known[key] = msgspec.structs.replace(known, peak_bytes=used_bytes)
            self._write()

    def _write(self) -> None:
        try:
            write_atomically(self._path, msgspec.json.format(msgspec.json.encode(self._known)))
        except OSError as error:
            log.error("what was measured cannot be written down: %s", error)


def _merged(former: Footprint, measured: Footprint) -> Footprint:
    load_s = _NEWEST_WEIGHT * measured.load_s + (1 - _NEWEST_WEIGHT) * former.load_s
    return msgspec.structs.replace(
        _stamped(measured),
        peak_bytes=max(former.peak_bytes, measured.peak_bytes),
        load_s=round(load_s, 1),
        starts=former.starts + 1,
    )


def _stamped(measured: Footprint) -> Footprint:
    return msgspec.structs.replace(measured, measured_unix_s=time.time())


def _read(path: Path) -> dict[str, Footprint]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Footprint])
    except FileNotFoundError:
        return {}
    except UNREADABLE as error:
        log.warning("%s cannot be read, models are measured anew: %s", path, error)
        return {}
