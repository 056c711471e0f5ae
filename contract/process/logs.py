"""One line format for the log of every process.

    2026-01-31T12:00:00.123+01:00 WARNING demo-0-5f1c2e workers.claims.job_consumer: what happened

A line begins with the time, its zone, and the level. Whatever a message holds, it stays one line;
the lines of a traceback are indented, so that none of them looks like a line of its own. Or a line
is one JSON object, with the traceback in it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from datetime import datetime
from types import TracebackType
from typing import Final, TypeAlias

import msgspec

from contract.process.flood import FloodGate
from contract.process.journal import JournalHandler

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
        return _without_secrets(super().format(record))


class _JsonFormatter(_Formatter):
    """One JSON object a line; a traceback is one of its fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": _visible(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _without_secrets(msgspec.json.encode(line).decode())


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


def line_formatter(process: str, *, as_json: bool = False) -> logging.Formatter:
    """Return what makes lines of a process' log."""
    if as_json:
        return _JsonFormatter(process)
    return _Formatter(f"%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s")


def configure_logging(process: str, *, as_json: bool = False, to_journal: bool = False) -> None:
    """Log to stderr (the supervisor keeps it in logs/), and to systemd's journal if that is asked
    for. EW_LOG_LEVEL sets the level."""
    handlers: list[logging.Handler] = [_Handler()]
    handlers[0].setFormatter(line_formatter(process, as_json=as_json))
    if to_journal:
        journal = JournalHandler(process)
        # The journal has the time and the level of each line itself.
        journal.setFormatter(_Formatter("%(message)s"))
        handlers.append(journal)
    level = os.environ.get("EW_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, handlers=handlers, force=True)


def _without_secrets(text: str) -> str:
    return _SECRETS.sub(lambda match: f"{match[1] or match[2]}...", text)


def _visible(text: str) -> str:
    return _CONTROLS.sub(lambda match: repr(match[0])[1:-1], text)


def _indented(text: str) -> str:
    return "\n".join(f"{_INDENT}{_visible(line)}" for line in text.split("\n"))
