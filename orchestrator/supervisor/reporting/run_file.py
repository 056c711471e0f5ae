"""The file for a supervisor's successor: which processes run, and which should."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from contract.messages import UNREADABLE
from contract.paths import run_dir
from orchestrator.errors import UserError
from orchestrator.supervisor.units.record import UnitRecord
from orchestrator.system.files import write_atomically
from orchestrator.system.process import Identity

log = logging.getLogger(__name__)


class Run(msgspec.Struct, frozen=True):
    """One run of ew, from the first start to the last stop. `redis_url` None means embedded."""

    supervisor: Identity
    redis_url: str | None
    variables: dict[str, str]
    units: list[UnitRecord]
    is_stopping: bool = False
    #: By model, what the operator said of it (`./ew pin`).
    pins: dict[str, bool] = {}
    #: Of ew, as the supervisor has it.
    version: str = ""


def path() -> Path:
    return run_dir() / "processes.json"


def has_run_file() -> bool:
    return path().exists()


def write_run(run: Run) -> None:
    write_atomically(path(), msgspec.json.encode(run))


def read_run() -> Run | None:
    """Return what runs; None if nothing does. Raises `UserError` if it cannot be understood."""
    try:
        return _read()
    except UNREADABLE as error:
        raise UserError(
            f"what runs was started by another version of ew: {path()} cannot be understood "
            f"({error})",
            "`./ew stop`, then `./ew start`",
        ) from None


def take_run() -> Run | None:
    """Return the run to take over; None if there is none. One that cannot be read is set aside,
    which is for a supervisor alone to do."""
    try:
        return _read()
    except UNREADABLE as error:
        aside = path().with_suffix(".unreadable")
        path().replace(aside)
        log.error("%s cannot be read (%s); kept as %s", path(), error, aside)
        return None


def _read() -> Run | None:
    try:
        return msgspec.json.decode(path().read_bytes(), type=Run)
    except FileNotFoundError:
        return None


def remove_run() -> None:
    path().unlink(missing_ok=True)
