"""Files of the state that no other user may read, replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path


def replace_privately(path: Path, content: bytes) -> None:
    """Let a file (0600) have this content, once the disk has it. Several processes may do so at
    once: one of them is last. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor with its mode set
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    scratch.replace(path)
