"""The logs of this host: which there are, their last lines, and what is written on."""

from __future__ import annotations

from pathlib import Path

from contract.logs.file import LogFile, logs_of
from contract.logs.line import LogLine, merged
from contract.paths import logs_dir, process_of_log


def log_units() -> list[str]:
    """Return the processes that have a log."""
    return [process_of_log(path) for path in logs_of(logs_dir(), None)]


class LogTail:
    """The logs of some units, or of all, merged by time. Its methods block for as long as the disk
    takes."""

    def __init__(self, units: list[str]) -> None:
        self._units = units
        self._files = [LogFile(path) for path in self._paths()]

    def last(self, count: int) -> list[LogLine]:
        """Return the last lines, `count` at most; `new_lines` goes on after them."""
        lines = merged(file.last(count) for file in self._files)
        return lines[max(0, len(lines) - count) :]

    def new_lines(self) -> list[LogLine]:
        """Return what was written since, also to logs that are new."""
        known = {file.path for file in self._files}
        self._files += [LogFile(path) for path in self._paths() if path not in known]
        return merged(file.new_lines() for file in self._files)

    def _paths(self) -> list[Path]:
        paths = logs_of(logs_dir(), None)
        return [each for each in paths if not self._units or process_of_log(each) in self._units]
