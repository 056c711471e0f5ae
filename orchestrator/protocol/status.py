"""The status that `./ew status` shows: written by the supervisor about once a second."""

from __future__ import annotations

import time

import msgspec

from contract.messages import UNREADABLE
from contract.supervision.status import ModelStatus, RunStatus, status_path
from orchestrator.errors import UserError


def read_status() -> RunStatus:
    """Return the status that the supervisor wrote last; that nothing runs, if there is none. Raises
    `UserError` if that cannot be read: an ew of another version may have written it."""
    try:
        return msgspec.json.decode(status_path().read_bytes(), type=RunStatus)
    except FileNotFoundError:
        return RunStatus(time.time())
    except UNREADABLE as error:
        raise UserError(
            f"{status_path()} cannot be understood: {error}",
            "was ew updated while it ran? `./ew restart`, else `./ew stop`, then `./ew start`",
        ) from None


def models_as_seen() -> list[ModelStatus]:
    """The models of what the supervisor wrote last; none if that cannot be read: who stops what
    runs has to get by without."""
    try:
        return read_status().models
    except UserError:
        return []
