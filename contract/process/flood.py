"""A flood of log lines with one cause becomes a count."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, Timer
from time import monotonic
from typing import Final

#: This many lines from one place in the code are written within `WINDOW_S`; more are counted.
BURST: Final = 100
WINDOW_S: Final = 10.0


class _Flood:
    """The records of one place in the code in a window of time."""

    def __init__(self) -> None:
        self.ends_at = monotonic() + WINDOW_S
        self.lines = 0

    @property
    def unsaid(self) -> int:
        return max(0, self.lines - BURST)


class FloodGate(logging.Filter):
    """Lets the first lines from one place in the code through, and counts those that follow.
    `tell` is given a line that says how many, when the window ends or the process."""

    def __init__(self, tell: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._tell = tell
        self._mutex = Lock()
        self._floods: dict[tuple[str, int], _Flood] = {}
        self._unsaid: dict[_Flood, logging.LogRecord] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        with self._mutex:
            flood = self._flood(record)
            flood.lines += 1
            if flood.unsaid:
                self._unsaid[flood] = record
            if flood.unsaid == 1:
                self._tell_later(flood)
            return not flood.unsaid

    def close(self) -> None:
        """Tell of all that was not said, now."""
        for flood in list(self._unsaid):
            self._tell_of(flood)

    def _flood(self, record: logging.LogRecord) -> _Flood:
        place = (record.pathname, record.lineno)
        flood = self._floods.get(place)
        if flood is None or monotonic() >= flood.ends_at:
            flood = self._floods[place] = _Flood()
        return flood

    def _tell_later(self, flood: _Flood) -> None:
        """Report the flood at its end, also if no further line comes."""
        timer = Timer(max(0.0, flood.ends_at - monotonic()), self._tell_of, [flood])
        timer.daemon = True
        timer.start()

    def _tell_of(self, flood: _Flood) -> None:
        with self._mutex:
            last = self._unsaid.pop(flood, None)
        if last is not None:
            self._tell(_count(last, flood.unsaid))


def _count(last: logging.LogRecord, unsaid: int) -> logging.LogRecord:
    text = f"{unsaid} more lines like this: {last.getMessage()}"
    return logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, text, None, None)
