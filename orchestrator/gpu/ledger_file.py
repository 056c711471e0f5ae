"""The account of GPU memory on disk, for the next supervisor."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from contract.messages import UNREADABLE
from contract.paths import state_dir
from contract.process.process_table import boot_id
from orchestrator.gpu.reservation import Reservation
from orchestrator.system.files import write_atomically

log = logging.getLogger(__name__)


def ledger_path() -> Path:
    return state_dir() / "ledger.json"


class _Content(msgspec.Struct, frozen=True):
    """After another boot none of it holds."""

    boot_id: str
    reservations: list[Reservation]


class LedgerFile:
    """Written only when its content changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Its content, as this supervisor has written it last.
        self._written = b""

    def read(self) -> list[Reservation]:
        """Empty if there is none, or it is from before the last boot."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return []
        except UNREADABLE as error:
            log.warning(
                "%s cannot be read, GPU memory is accounted for anew: %s", self._path, error
            )
            return []
        return content.reservations if content.boot_id == boot_id() else []

    def write(self, reservations: Iterable[Reservation]) -> None:
        """A full disk is logged, and no reason to stop."""
        content = msgspec.json.encode(_Content(boot_id(), list(reservations)))
        if content == self._written:
            return
        try:
            write_atomically(self._path, content)
            self._written = content
        except OSError as error:
            log.error("the account of GPU memory cannot be written down: %s", error)
