"""Logs as they grow: the last lines, then the new ones."""

from __future__ import annotations

import re
from pathlib import Path

from contract.paths import process_of_log
from orchestrator.diagnosis import read_tail


def logs_of(directory: Path, name: str | None) -> list[Path]:
    """The logs of a model's workers, or of the process called `name`; of all without a name."""
    paths = sorted(directory.glob("*.log"))
    if name is None:
        return paths
    replica = re.compile(rf"{re.escape(name)}(-\d+)?")
    return [path for path in paths if replica.fullmatch(process_of_log(path))]


class LogFile:
    """One log, read on from where it was left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._rest = b""

    def last(self, count: int) -> list[str]:
        """The last lines; `new_lines` goes on after them."""
        self._position = self._size()
        return read_tail(self.path, 0, count) if count else []

    def new_lines(self) -> list[str]:
        """The complete lines that came since; a file that was begun anew is read from its
        start."""
        if self._size() < self._position:
            self._position, self._rest = 0, b""
        try:
            with self.path.open("rb") as log:
                log.seek(self._position)
                text = log.read()
        except FileNotFoundError:
            return []
        self._position += len(text)
        *lines, self._rest = (self._rest + text).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
