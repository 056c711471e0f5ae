"""Mutual exclusion between processes, by `flock` on a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Mutex:
    """One process at a time holds it, from a successful `acquire` until `release` or until the
    process ends. It leaves no file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Return False at once if another process holds it."""
        while True:
            descriptor = _open(self._path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if _is_current(self._path, descriptor):
                self._descriptor = descriptor
                return True
            os.close(descriptor)

    @property
    def is_held(self) -> bool:
        """Return whether it is held, and its file was not deleted: then another process could hold
        its successor."""
        return self._descriptor >= 0 and _is_current(self._path, self._descriptor)

    @property
    def was_deleted(self) -> bool:
        """Return whether its file is in no directory any more; one that was moved still is."""
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink == 0

    def renew(self) -> bool:
        """Hold it as before, where its file was deleted. Return False if another process holds the
        new one."""
        former, self._descriptor = self._descriptor, -1
        if not self.acquire():
            self._descriptor = former
            return False
        os.close(former)
        return True

    def release(self) -> None:
        """Remove the file and let the next process in."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def exclusive(path: Path, on_wait: Callable[[], object]) -> Iterator[int]:
    """Hold the mutex at `path`, and wait for it, after a call of `on_wait`, while another process
    has it. Yields the descriptor: a child that inherits it holds the mutex too, so that nothing
    works beside an installer whose parent was killed. The file stays."""
    descriptor = _wait_for(path, on_wait)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for(path: Path, on_wait: Callable[[], object]) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_current(path, descriptor):
            return descriptor
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_current(path: Path, descriptor: int) -> bool:
    """Return whether the file is still the one at the path. A former holder may have removed it
    meanwhile; another process could then hold its successor."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
