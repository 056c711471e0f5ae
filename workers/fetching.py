"""How much of its model is here while an engine downloads it: what the cache of Hugging Face's
library shows of it, since no engine tells."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from contract.config import is_repo_id
from contract.hub_cache import PARTIAL, repo_dir
from contract.messages import DOWNLOADING
from contract.paths import project_dir

#: A part that has not grown for this long is left over from another download.
_AT_WORK_S: Final = 120.0
_WEIGHTS: Final = (".safetensors", ".bin", ".gguf")
_UNITS: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class Fetching:
    """Looks at the cache for one model."""

    def __init__(self, model_path: str) -> None:
        is_remote = is_repo_id(model_path) and not (project_dir() / model_path).exists()
        self._directory = repo_dir(model_path) if is_remote else None

    def stage(self) -> str:
        """`downloading 1.2 GiB of 14.2 GiB`; empty if nothing is on its way."""
        if self._directory is None:
            return ""
        try:
            return _stage(self._directory)
        except OSError:
            # A file is gone as soon as it is complete.
            return DOWNLOADING


def _stage(directory: Path) -> str:
    blobs = list((directory / "blobs").glob("*"))
    since = time.time() - _AT_WORK_S
    partial = [blob for blob in blobs if blob.name.endswith(PARTIAL)]
    if not any(blob.stat().st_mtime > since for blob in partial):
        return ""
    wanted = _wanted(directory / "trees")
    there = sum(
        blob.stat().st_size for blob in blobs if not wanted or blob.name.partition(".")[0] in wanted
    )
    total = f" of {_size(sum(wanted.values()))}" if wanted else ""
    return f"{DOWNLOADING} {_size(there)}{total}"


def _wanted(trees: Path) -> dict[str, int]:
    """The sizes of the weights that engines take, by the names that they have in the cache; empty
    if nothing says so (the library lists files since its 2.x)."""
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
