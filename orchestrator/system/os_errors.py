"""Errors of the operating system in words, with the cure."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from contract.paths import logs_dir, state_dir
from orchestrator.errors import UserError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Errors that a person at the keyboard, or the machine's owner, can mend. Others are our defects.
_MENDABLE: Final = _FULL | {
    errno.EACCES,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENFILE,
    errno.ENOENT,
    errno.ENOMEM,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
    errno.ETXTBSY,
}
_ELSEWHERE: Final = "keep ew's files elsewhere: `EW_STATE_DIR=/a/directory/of/yours`"


def explain(error: OSError) -> UserError | None:
    """Return the error for a person; None if it is none that a person can mend."""
    if error.errno not in _MENDABLE:
        return None
    reason = error.strerror or "the system refuses"
    reason = f"{reason[:1].lower()}{reason[1:]}"
    if error.filename is None:
        return UserError(reason, _cure_anywhere(error))
    return UserError(f"{error.filename}: {reason}", _cure(error, Path(error.filename)))


def _cure(error: OSError, path: Path) -> str:
    if error.errno in _FULL:
        return f"free some space (`df -h {path.parent}`), or {_ELSEWHERE}"
    if any(_are_related(path, place) for place in (state_dir(), logs_dir())):
        return f"mend that, or {_ELSEWHERE}"
    return "see whether it is there, whose it is, and whether it may be changed"


def _are_related(path: Path, place: Path) -> bool:
    """Return whether one of them has to be passed to come to the other."""
    return path.is_relative_to(place) or place.is_relative_to(path)


def _cure_anywhere(error: OSError) -> str:
    if error.errno in _FULL:
        return f"free some space (`df -h`), or {_ELSEWHERE}"
    if error.errno == errno.ENOENT:
        return "the current directory may be gone: `cd` to another"
    return "`./ew doctor` looks for the cause"
