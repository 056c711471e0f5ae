"""How much of its model is here while an engine downloads it: what the cache of Hugging Face's
library shows of it, since no engine tells."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract.config import is_repo_id
from contract.model_files.hub_cache import PARTIAL, repo_dir
from contract.paths import project_dir

#: A part that has not grown for this long is left over from another download.
_AT_WORK_S: Final = 120.0
_WEIGHTS: Final = (".safetensors", ".bin", ".gguf")
_UNITS: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class DownloadProgress(NamedTuple):
    """How far a download is. `wanted_bytes` is 0 where nothing says how much is to come."""

    there_bytes: int
    wanted_bytes: int

    def __str__(self) -> str:
        total = f" of {_size(self.wanted_bytes)}" if self.wanted_bytes else ""
        return f"downloading {_size(self.there_bytes)}{total}"


class Fetching:
    """Looks at the cache for one model."""

    def __init__(self, model_path: str) -> None:
        is_remote = is_repo_id(model_path) and not (project_dir() / model_path).exists()
        self._directory = repo_dir(model_path) if is_remote else None
        self._latest: DownloadProgress | None = None

    def download(self) -> DownloadProgress | None:
        """Return how far the download is; None if nothing is downloaded."""
        if self._directory is not None:
            # A file is gone as soon as it is complete: then the latest look counts.
            with suppress(OSError):
                self._latest = _download(self._directory)
        return self._latest


def _download(directory: Path) -> DownloadProgress | None:
    blobs = list((directory / "blobs").glob("*"))
    since = time.time() - _AT_WORK_S
    partial = [blob for blob in blobs if blob.name.endswith(PARTIAL)]
    if not any(blob.stat().st_mtime > since for blob in partial):
        return None
    wanted = _wanted(directory / "trees")
    there = sum(
        blob.stat().st_size for blob in blobs if not wanted or blob.name.partition(".")[0] in wanted
    )
    return DownloadProgress(there, sum(wanted.values()))


def _wanted(trees: Path) -> dict[str, int]:
    """Return the sizes of the weights that engines take, by the names that they have in the
    cache; empty if nothing says so (the library lists files since its 2.x)."""
    listing = max(trees.glob("*.json"), key=lambda path: path.stat().st_mtime, default=None)
    if listing is None:
        return {}
    try:
        files: dict[str, dict[str, Any]] = json.loads(listing.read_bytes())["files"]
        for kind in _WEIGHTS:
            found = [entry for path, entry in files.items() if path.endswith(kind)]
            if found:
                return {_name(entry): int(entry["size"]) for entry in found}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {}


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("lfs_sha256") or entry["blob_id"])


def _size(count: int) -> str:
    for unit_bytes, unit in _UNITS:
        if count >= unit_bytes:
            return f"{count / unit_bytes:.1f} {unit}"
    return f"{count} B"
