"""The audit log, `logs/audit.log`: who changed what over the administration API. It is written and
read here alone."""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

from contract.keys import KeyRecord
from contract.logs.file import LogFile
from contract.logs.rotation import open_privately
from contract.paths import log_path
from contract.process.logs import line_formatter
from gateway.http.errors import ApiError

_UNIT: Final = "audit"
_formatter = line_formatter("gateway")
#: Of a line that `note` has written. JSON lines have the name of their logger before it.
_LINE: Final = re.compile(rf"(?:{_UNIT}: )?key (\S+) \((.*?)\) from (\S+): (.*)")
#: Lines of the log that are looked at, the last ones.
_MOST_LINES: Final = 5_000


class AuditEntry(NamedTuple):
    """A change that was asked for. `time` is ISO 8601; `change` is JSON, or a text."""

    time: str | None
    key_id: str
    key_name: str
    address: str
    change: str


def note(key: KeyRecord, address: str, change: str) -> None:
    """Write that a key asks for a change, before it is made. Raises `ApiError` if that cannot be
    written: the change must not be made then."""
    record = logging.makeLogRecord(
        {
            "name": _UNIT,
            "levelno": logging.INFO,
            "levelname": "INFO",
            "msg": "key %s (%s) from %s: %s",
            "args": (key.id, key.name, address, change),
        }
    )
    try:
        with open_privately(log_path(_UNIT)) as log:
            log.write(_formatter.format(record).encode(errors="replace") + b"\n")
    except OSError as error:
        message = f"nothing was changed: the audit log cannot be written ({error.strerror})"
        raise ApiError("audit_failed", message) from error


def read_entries(text: str, most: int) -> list[AuditEntry]:
    """Return the last changes in which a text stands, in whatever field, the newest first. Blocks
    while the disk is read."""
    found: list[AuditEntry] = []
    for line in reversed(LogFile(log_path(_UNIT)).last(_MOST_LINES)):
        said = _LINE.fullmatch(line.message)
        if said and text.lower() in line.message.lower():
            found.append(AuditEntry(line.time, *said.groups()))
        if len(found) == most:
            break
    return found
