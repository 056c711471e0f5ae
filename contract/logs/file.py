"""Logs as they grow: the last lines, then the new ones, also while they are rotated."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from contract.logs.line import LogLine, parse, placed, unix_s
from contract.logs.rotation import aside
from contract.paths import process_of_log

#: The log of requests: it has one line for each.
ACCESS: Final = "access"
_BLOCK_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 64


def logs_of(directory: Path, name: str | None) -> list[Path]:
    """Return the logs of a model's workers, or of the process called `name`; of all without a
    name, but for the access log."""
    paths = sorted(directory.glob("*.log"))
    if name is None:
        return [path for path in paths if process_of_log(path) != ACCESS]
    replica = re.compile(rf"{re.escape(name)}(-\d+)?")
    return [path for path in paths if replica.fullmatch(process_of_log(path))]


class LogFile:
    """One log with the older part that was put aside, read on from where it was left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unit = process_of_log(path)
        self._position = 0
        #: Its first bytes: other first bytes are those of another part.
        self._head = b""
        self._rest = b""
        self._at = 0.0

    def last(self, count: int | None, since_unix_s: float | None = None) -> list[LogLine]:
        """Return the last lines, at most `count`, none from before `since_unix_s`. `new_lines`
        goes on after them."""
        newest_first: list[LogLine] = []
        is_cut = False
        for line in self._backwards():
            written = unix_s(line)
            if since_unix_s is not None and written is not None and written < since_unix_s:
                is_cut = True
                break
            if len(newest_first) == count:
                break
            newest_first.append(line)
        while is_cut and newest_first and newest_first[-1].time is None:
            # They belong to the line that is too old.
            newest_first.pop()
        lines = self._placed(newest_first[::-1], self._changed_unix_s())
        is_told = since_unix_s is None or any(line.at >= since_unix_s for line in lines)
        return lines if is_told else []

    def new_lines(self) -> list[LogLine]:
        """Return the complete lines that came since."""
        *lines, self._rest = (self._rest + self._new_bytes()).split(b"\n")
        parsed = [self._parse(line) for line in lines if line.strip()]
        return self._placed(parsed, self._at or time.time())

    def _new_bytes(self) -> bytes:
        try:
            with self.path.open("rb") as log:
                missed = self._missed(log)
                log.seek(self._position)
                text = log.read()
                self._left_at(log, self._position + len(text))
        except FileNotFoundError:
            return b""
        return missed + text

    def _missed(self, log: BinaryIO) -> bytes:
        """Return what was put aside before it was read."""
        is_shorter = os.fstat(log.fileno()).st_size < self._position
        if not is_shorter and log.read(len(self._head)) == self._head:
            return b""
        missed = _read_from(aside(self.path), self._position)
        self._position = 0
        return missed

    def _left_at(self, log: BinaryIO, position: int) -> None:
        self._position = position
        log.seek(0)
        self._head = log.read(min(position, _HEAD_BYTES))

    def _backwards(self) -> Iterator[LogLine]:
        """Yield all lines, the last first."""
        for path in (self.path, aside(self.path)):
            try:
                log = path.open("rb")
            except FileNotFoundError:
                continue
            with log:
                end = log.seek(0, os.SEEK_END)
                if path == self.path:
                    self._left_at(log, end)
                yield from map(self._parse, filter(bytes.strip, _lines_backwards(log, end)))

    def _parse(self, line: bytes) -> LogLine:
        return parse(self.unit, line.decode(errors="replace"))

    def _placed(self, lines: list[LogLine], at: float) -> list[LogLine]:
        result = placed(lines, at)
        self._at = result[-1].at if result else self._at
        return result

    def _changed_unix_s(self) -> float:
        return self.path.stat().st_mtime if self.path.exists() else 0.0


def _lines_backwards(log: BinaryIO, end: int) -> Iterator[bytes]:
    """Yield the lines before byte `end`, the last first."""
    rest = b""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        log.seek(start)
        rest, *lines = (log.read(end - start) + rest).split(b"\n")
        yield from reversed(lines)
        end = start
    if rest:
        yield rest


def _read_from(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as log:
            log.seek(position)
            return log.read()
    except FileNotFoundError:
        return b""
