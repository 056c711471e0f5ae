"""A lock between processes, which also outlives a killed one until its children have ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, on_wait: Callable[[], object]) -> Iterator[int]:
    """Hold the lock file `path`, made if missing; waits, after a call of `on_wait`, while another
    process holds it. Answers the descriptor: a child that inherits it holds the lock too, so
    that nobody works beside an installer whose parent was killed."""
    descriptor = _acquire(path, on_wait)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], object]) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether nobody removed the file, and with it our lock, in the meantime."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
