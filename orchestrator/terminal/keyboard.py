"""Keys as they are pressed, without an Enter behind them."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Final, TextIO

_KEYS: Final = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|\x1b|.", re.DOTALL)
_NAMES: Final = {
    "A": "up",
    "B": "down",
    "H": "home",
    "F": "end",
    "1~": "home",
    "4~": "end",
    "5~": "page up",
    "6~": "page down",
    "7~": "home",
    "8~": "end",
}
#: These end a program without a word; nothing would put the terminal right again.
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


class Keyboard:
    """Reads keys, and wakes at a change of the terminal's size, while it is entered. Ctrl-C is
    `KeyboardInterrupt` as ever; SIGTERM and SIGHUP are `SystemExit`, so that every caller cleans
    up. Ctrl-Z is off: it would leave the screen to the shell as it is."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self._descriptor)
        handlers = {**dict.fromkeys(_ENDS, _leave), signal.SIGWINCH: _wake}
        self._handlers = {number: signal.signal(number, each) for number, each in handlers.items()}
        self._former_waker = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        tty.setcbreak(self._descriptor)
        mode = termios.tcgetattr(self._descriptor)
        mode[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        signal.set_wakeup_fd(self._former_waker)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._woken.close()
        self._waker.close()

    def read(self, timeout_s: float) -> list[str]:
        """Return the keys that were pressed, waiting for the first for at most so long, or until
        the size changes. Leaves if the terminal is gone."""
        woken = self._woken.fileno()
        ready, _, _ = select.select([self._descriptor, woken], [], [], timeout_s)
        if woken in ready:
            self._woken.recv(4096)
        if self._descriptor not in ready:
            return []
        pressed = os.read(self._descriptor, 1024)
        if not pressed:
            _leave(signal.SIGHUP, None)
        return [_name(key) for key in _KEYS.findall(pressed.decode(errors="replace"))]


def _name(key: str) -> str:
    if key == "\x1b":
        return "escape"
    return _NAMES.get(key[2:], "") if key[0] == "\x1b" else key


def _wake(number: int, frame: FrameType | None) -> None:
    """That there is a handler is enough: the socket of `set_wakeup_fd` does the rest."""


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
