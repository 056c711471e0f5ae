"""Files that replace others whole: a reader finds the old one or the new one,
also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

from contract.paths import make_private


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o600, is_synced: bool = True
) -> None:
    """Replace a file, or make it, and its folder if need be (0700). Blocks until the disk has it,
    unless the file has no use after a power cut. Raises `OSError`; the old file is
    whole then, and nothing lies beside it."""
    make_private(path.parent)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor with its mode set
            os.fchmod(descriptor, mode)
            file.write(content)
        if is_synced:
            put_in_place(scratch, path)
        else:
            scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def put_in_place(scratch: Path, path: Path) -> None:
    """Let a file that was written beside another replace it, when the disk has all of it: the
    name may otherwise outlive the content. Raises `OSError`."""
    _sync(scratch)
    scratch.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
