"""Logs stay small and private while their processes write on.

A process has its log open for appending, and outlives the supervisor that opened it; so it
cannot be told to write elsewhere. A log that has grown large is copied aside and then cut to
nothing: the next line is appended to the empty file. A line written between the two is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Final

from contract.paths import make_private

#: The most that a log may hold; its older part has as much.
LARGEST_BYTES: Final = 50 * 1024 * 1024


def aside(path: Path) -> Path:
    """Return the path of the older part of a log."""
    return path.with_name(f"{path.name}.1")


def open_privately(path: Path) -> BinaryIO:
    """Open a log for appending, readable by its owner alone. Raises `OSError`."""
    make_private(path.parent)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with contextlib.suppress(PermissionError):
        # It may have been made by an ew that was less careful.
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")


def rotate(path: Path, *, beyond_bytes: int = LARGEST_BYTES) -> bool:
    """Put a log aside if it has grown beyond that, while processes write to it. Raises
    `OSError`."""
    if not path.exists() or path.stat().st_size <= beyond_bytes:
        return False
    older = aside(path)
    # Its room may be needed for the copy.
    older.unlink(missing_ok=True)
    with path.open("r+b") as grown, open_privately(older) as copy:
        shutil.copyfileobj(grown, copy, 1024 * 1024)
        copy.flush()
        # Little was written meanwhile, and it is quickly copied.
        shutil.copyfileobj(grown, copy)
        copy.flush()
        grown.truncate(0)
    return True
