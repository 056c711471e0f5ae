"""How a long step tells of itself on stderr: in one line that changes, or in lines now and then."""

from __future__ import annotations

import os
import sys
import time
from typing import Final, Protocol, TextIO

from contract.paths import as_called
from orchestrator.terminal.speech import terminal_size

_EVERY_S: Final = 10.0


class Say(Protocol):
    """Takes one line about something that happened, or will."""

    def __call__(self, text: str, /) -> object: ...


class Progress:
    """Lines with `say`; what changes all the time with `update`, which is shown in place on a
    terminal, and every ten seconds elsewhere."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._in_place = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._is_line_open = False
        self._shown = time.monotonic()

    def say(self, text: str) -> None:
        self.clear()
        self._shown = time.monotonic()
        print(as_called(text), file=self._stream, flush=True)

    def update(self, text: str) -> None:
        if self._in_place:
            width = terminal_size(self._stream).columns - 1
            print(f"\r\x1b[2K{text[:width]}", end="", file=self._stream, flush=True)
            self._is_line_open = True
        elif time.monotonic() - self._shown > _EVERY_S:
            self._shown = time.monotonic()
            print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Remove the line that changes."""
        if self._is_line_open:
            print("\r\x1b[2K", end="", file=self._stream, flush=True)
            self._is_line_open = False


def clock(seconds: float) -> str:
    """`0:35`, or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
