"""Room on a disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_SMALL_FILE_BYTES: Final = 64 * 1024


def is_full(directory: Path) -> bool:
    """Return whether the disk under a directory has no room for one more small file. Raises
    `OSError`."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < _SMALL_FILE_BYTES or 0 == disk.f_favail < disk.f_files
