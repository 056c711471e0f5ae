"""The order of starts and stops that are asked for at the same time."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from contract.paths import make_run_dir, run_dir
from orchestrator.errors import UserError

#: Each start that is being prepared has a file of its own: a stop removes it, and the start holds a
#: shared lock on it while it is handed to the supervisor.
_PREFIX: Final = "start-"
#: As long as a supervisor may take to come up, and some more.
_HANDED_OVER_WITHIN_S: Final = 25.0
_LOOK_EVERY_S: Final = 0.02


class StartTurn:
    """The place of a start among stops, while this is entered: a stop that comes later ends it,
    however far it has come. To enter it raises `OSError` where there can be no file for it."""

    def __enter__(self) -> Self:
        self._path = make_run_dir() / f"{_PREFIX}{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """Let stops wait until the supervisor has heard of it. Raises `UserError` if one came
        before."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        try:
            if os.fstat(self._descriptor).st_nlink == 0:
                raise UserError("it was stopped before it had begun", "start again")
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def stop_starts(within_s: float = _HANDED_OVER_WITHIN_S) -> bool:
    """Have those that were asked for before begin nothing, but for such as the supervisor hears of
    by the end of this. Blocks so long at most. Return False if one was still being handed over."""
    deadline = time.monotonic() + within_s
    in_progress = [path for path in run_dir().glob(f"{_PREFIX}*") if not _stop(path, deadline)]
    return not in_progress


def _stop(path: Path, deadline: float) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        # It has just ended; or else the disk is broken, which is no reason to go on.
        return True
    try:
        while not _lock(descriptor):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
