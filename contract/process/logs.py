"""One line format for the log of every process.

    2026-01-31T12:00:00.123+01:00 WARNING demo-0-5f1c2e workers.job_consumer: what happened

A line begins with the time, its zone, and the level. Whatever a message holds, it stays one line;
the lines of a traceback are indented, so that none of them looks like a line of its own.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from datetime import datetime
from types import TracebackType
from typing import Final, TypeAlias

from contract.process.flood import FloodGate

_SECRETS = re.compile(r"(ew_[a-z0-9]{8}_)[A-Za-z0-9]+|(://[^:/@\s]*:)[^/\s]+(?=@)")
#: Characters that a terminal takes as an order, or an editor as the end of a line.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INDENT: Final = "    "

_Failure: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class _Formatter(logging.Formatter):
    """Blanks API keys and passwords in URLs, and writes control characters as their codes,
    wherever they come from."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the local time with its offset from UTC."""
        return (
            datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        )

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _visible(super().formatMessage(record))

    def formatException(self, ei: _Failure) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub(lambda match: f"{match[1] or match[2]}...", super().format(record))


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # it is not generic at run time
    """Writes to stderr, without floods."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._gate = FloodGate(self._write)
        self.addFilter(self._gate)

    def close(self) -> None:
        self._gate.close()
        super().close()

    def _write(self, record: logging.LogRecord) -> None:
        """Write a line that no gate counts."""
        self.acquire()
        try:
            self.emit(record)
        finally:
            self.release()


def line_formatter(process: str) -> logging.Formatter:
    """Return what makes lines of a process' log."""
    return _Formatter(f"%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s")


def configure_logging(process: str) -> None:
    """Log to stderr (the supervisor keeps it in logs/). EW_LOG_LEVEL sets the level."""
    handler = _Handler()
    handler.setFormatter(line_formatter(process))
    level = os.environ.get("EW_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _visible(text: str) -> str:
    return _CONTROLS.sub(lambda match: repr(match[0])[1:-1], text)


def _indented(text: str) -> str:
    return "\n".join(f"{_INDENT}{_visible(line)}" for line in text.split("\n"))
