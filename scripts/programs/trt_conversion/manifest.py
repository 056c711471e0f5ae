"""The manifest in a converted directory: what it was made of, with what, and for what device.

A plan's own config.json says neither which GPU nor which TensorRT it was compiled for.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

NAME: Final = "ew_manifest.json"
FORMAT: Final = 1
#: The facts that must be equal for two conversions to be the same.
_INPUTS: Final = ("kind", "source", "arguments", "tensorrt_llm", "compute_capability")
_CHUNK_BYTES: Final = 8 * 2**20


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """None if there is none, or it cannot be read."""
    try:
        found = json.loads((directory / NAME).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def inputs_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest says that its conversion depended on."""
    if manifest["kind"] == "checkpoint":
        return {name: manifest.get(name) for name in _INPUTS}
    facts = {
        **manifest,
        "tensorrt_llm": manifest["versions"]["tensorrt_llm"],
        "compute_capability": manifest["gpu"]["compute_capability"],
    }
    return {name: facts.get(name) for name in _INPUTS}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """In words: each input that differs."""
    found = []
    for name in _INPUTS:
        before, after = old[name], new[name]
        if isinstance(before, dict) and isinstance(after, dict):
            found += [
                f"{key.replace('_', '-')} {before.get(key)} -> {after.get(key)}"
                for key in {**before, **after}
                if before.get(key) != after.get(key) and key != "fingerprint"
            ]
            if before.get("fingerprint") != after.get("fingerprint"):
                found.append("the checkpoint's files have changed")
        elif before != after:
            found.append(f"{name} {before} -> {after}")
    return found


def write_manifest(directory: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Add digests and sizes of all files to the facts, and write them down. Blocks for about a
    second per gigabyte."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, files))
    manifest = {
        "format": FORMAT,
        **facts,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": {
            str(path.relative_to(directory)): {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(files, digests, strict=True)
        },
    }
    (directory / NAME).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
