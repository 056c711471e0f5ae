"""Log lines for systemd's journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"
#: Of one message; the protocol has another way for longer ones, which need no such haste.
_LONGEST_BYTES: Final = 32_768
_PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class Journal:
    """A connection to the journal. Nothing waits for it: a line that it has no room for, or that
    comes while there is no journal, is dropped."""

    def __init__(self, identifier: str, path: str = SOCKET) -> None:
        self._identifier = identifier
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def send(self, level: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        """Send a line; names of `fields` become `EW_...`."""
        whole = {
            "MESSAGE": message,
            "PRIORITY": _PRIORITIES.get(level, 6),
            "SYSLOG_IDENTIFIER": self._identifier,
            **{f"EW_{name.upper()}": value for name, value in (fields or {}).items()},
        }
        datagram = b"".join(_field(name, str(value)) for name, value in whole.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram, self._path)

    def close(self) -> None:
        self._socket.close()


class JournalHandler(logging.Handler):
    """Sends what the logging module is given."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._journal = Journal(f"ew-{process}")

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.send(record.levelname, self.format(record), {"logger": record.name})

    def close(self) -> None:
        self._journal.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    """Return a field; a value of several lines goes with its length."""
    encoded = value.encode(errors="replace")[:_LONGEST_BYTES]
    if b"\n" not in encoded:
        return b"%b=%b\n" % (name.encode(), encoded)
    return b"%b\n%b%b\n" % (name.encode(), len(encoded).to_bytes(8, "little"), encoded)
