"""How a download is shown: a bar for each file on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from orchestrator.hub.remote import RemoteFile
from orchestrator.terminal.speech import mebibytes, say

_MIB: Final = 2**20
_EVERY_S: Final = 10.0


class Bars:
    """For a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def began(self, file: RemoteFile, there_bytes: int) -> None:
        name = file.path if len(file.path) <= 32 else f"...{file.path[-29:]}"
        self._tasks[file.path] = self._progress.add_task(
            name, total=file.size_bytes, completed=there_bytes
        )

    def came(self, file: RemoteFile, more_bytes: int) -> None:
        self._progress.advance(self._tasks[file.path], more_bytes)

    def ended(self, file: RemoteFile) -> None:
        if file.path in self._tasks:
            self._progress.update(self._tasks[file.path], completed=file.size_bytes)

    def waits(self, file: RemoteFile, reason: str) -> None:
        self._progress.console.print(_lost(file, reason), markup=False, highlight=False)


class Lines:
    """For a log or a pipe."""

    def __init__(self, total_bytes: int, missing_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._there_bytes = total_bytes - missing_bytes
        self._said_at = time.monotonic()
        self._mutex = threading.Lock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to clear away."""

    def began(self, file: RemoteFile, there_bytes: int) -> None:
        there = f", {_size(there_bytes)} of it are here" if there_bytes else ""
        say(f"fetching {file.path} ({_size(file.size_bytes)}{there})")

    def came(self, file: RemoteFile, more_bytes: int) -> None:
        with self._mutex:
            self._there_bytes += more_bytes
            if time.monotonic() - self._said_at > _EVERY_S:
                self._said_at = time.monotonic()
                say(f"{_size(self._there_bytes)} of {_size(self._total_bytes)}")

    def ended(self, file: RemoteFile) -> None:
        say(f"{file.path} is here")

    def waits(self, file: RemoteFile, reason: str) -> None:
        say(_lost(file, reason))


def watcher(total_bytes: int, missing_bytes: int) -> Bars | Lines:
    """Return what suits where stderr goes."""
    return Bars() if sys.stderr.isatty() else Lines(total_bytes, missing_bytes)


def _lost(file: RemoteFile, reason: str) -> str:
    return f"{file.path}: the connection is lost ({reason}); trying again"


def _size(count: int) -> str:
    return mebibytes(count / _MIB)
