"""The audit log, `logs/audit.log`: who changed what over the administration API."""

from __future__ import annotations

import logging
from typing import Final

from contract.keys import KeyRecord
from contract.logs.rotation import open_privately
from contract.paths import log_path
from contract.process.logs import line_formatter
from gateway.http.errors import ApiError

_UNIT: Final = "audit"
_formatter = line_formatter("gateway")


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
