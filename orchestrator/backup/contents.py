"""The files that a backup has, where they are, and what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from contract.paths import config_path, log_path, state_dir

#: Of the state directory: keys, secrets of the service, uploaded files and batches, results of
#: tasks, measured memory of models, and Valkey's data, which `append_only` copies. Environments,
#: downloaded models, logs and what only a running ew needs can be made again.
IN_STATE: Final = (
    "keys.json",
    "shared_keys.json",
    "quickstart.key",
    "service.env",
    "footprints.json",
    "files",
    "batches",
    "tasks",
)
VALKEY: Final = "valkey/appendonlydir"
#: The first member of an archive.
LABEL: Final = "backup.json"


class Label(msgspec.Struct, frozen=True):
    """A backup by its own words. `redis`: `embedded` (its data is here), `external` (it is not) or
    `none` (there was none yet)."""

    ew: str
    made_unix_s: float
    redis: str
    v: int = 1


def place_of(name: str) -> Path:
    """Return where a top-level member belongs on this host."""
    if name == "config.json":
        return config_path()
    return log_path("audit") if name == "audit.log" else state_dir() / name


def files() -> Iterator[tuple[str, Path]]:
    """Yield the files that there are, but for Valkey's: their names in the archive, and where they
    are. One may be gone by the time that it is read."""
    for name in ("config.json", "audit.log", *IN_STATE):
        path = place_of(name)
        if path.is_file():
            yield name, path
        for folder, _, found in os.walk(path):
            for each in sorted(found):
                inner = Path(folder, each)
                if inner.is_file() and not inner.is_symlink():
                    yield f"{name}/{inner.relative_to(path)}", inner
