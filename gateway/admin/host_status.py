"""The status document of this host, as its supervisor writes it, and how it changes."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from contract.messages import UNREADABLE
from contract.supervision.last_seen import is_supervised, without_the_dead
from contract.supervision.status import RunStatus, status_path
from gateway.http.errors import ApiError


def read_host_status() -> RunStatus:
    """Return what the supervisor wrote last, as far as it still is so; an empty document if it
    wrote nothing. Raises `ApiError` if that cannot be understood."""
    try:
        status = msgspec.json.decode(status_path().read_bytes(), type=RunStatus)
    except FileNotFoundError:
        return RunStatus(time.time())
    except UNREADABLE:
        message = "the status document is of another version of ew: `./ew stop`, then `./ew start`"
        raise ApiError("supervisor_away", message) from None
    if status.supervisor is None or is_supervised(status):
        return status
    return without_the_dead(status)


class HostStatusChanges:
    """The document again and again: whole at first, then the fields at its top that have changed.
    Whoever lays each over what came before has the document of now."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """Return the fields that are new; none if the document is the same. Raises `ApiError`."""
        now: dict[str, Any] = msgspec.to_builtins(read_host_status())
        changed = {
            name: value
            for name, value in now.items()
            if name not in self._last or self._last[name] != value
        }
        self._last = now
        return changed
