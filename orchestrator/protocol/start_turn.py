"""The order of starts and stops that are asked for at the same time."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from contract.paths import make_run_dir, run_dir
from orchestrator.errors import UserError

#: Changed by each stop; who hands a start to the supervisor holds a shared lock on it meanwhile.
_NAME: Final = "stops"
#: As long as a supervisor may take to come up, and some more.
_HANDED_OVER_WITHIN_S: Final = 25.0
_LOOK_EVERY_S: Final = 0.02


class StartTurn:
    """The place of a start among stops, from when it was asked for: a stop that comes later ends
    it, however far it has come. Raises `OSError` where there can be no directory for it."""

    def __init__(self) -> None:
        self._path = make_run_dir() / _NAME
        descriptor = self._open()
        try:
            self._stops = _read(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """Let stops wait until the supervisor has heard of it. Raises `UserError` if one came
        before."""
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _read(descriptor) != self._stops:
                raise UserError("it was stopped before it had begun", "start again")
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def stop_starts(within_s: float = _HANDED_OVER_WITHIN_S) -> bool:
    """Have those that were asked for before begin nothing, but for such as the supervisor hears of
    by the end of this. Blocks so long at most. Return False if one was still being handed over."""
    try:
        descriptor = os.open(run_dir() / _NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        # Nothing was ever started here; or else the disk is broken, which is no reason to go on.
        return True
    try:
        with suppress(OSError):
            os.pwrite(descriptor, secrets.token_bytes(16), 0)
        return _wait_for(descriptor, time.monotonic() + within_s)
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        else:
            return True


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, 16, 0)
