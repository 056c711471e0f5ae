"""The owner of ew's state. Files in it are executed (environments), spoken to (sockets) and
believed (keys, the run of a former supervisor), so no other user may have put it there."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from contract.paths import state_dir
from orchestrator.errors import UserError

_ELSEWHERE: Final = "EW_STATE_DIR=/a/directory/of/yours"
#: Files of the state that are executed or believed.
_TRUSTED: Final = ("", "envs", "run", "keys.json", "shared_keys.json", "ledger.json", "status.json")


def require_own_state() -> None:
    """Close the state (0700) if ew has chosen its place. Raises `UserError` if another user owns
    some of it, or could have changed it."""
    for name in _TRUSTED:
        _require_own(state_dir() / name)
    _close(state_dir())


def _require_own(path: Path) -> None:
    try:
        status = path.stat()
    except OSError:
        # There is none, or what is wrong with it shows where it is used.
        return
    if status.st_uid != os.getuid():
        raise UserError(
            f"{path} belongs to {_name(status.st_uid)}, and this is {_name(os.getuid())}: what "
            "lies there would be executed",
            f"run ew as that user, or keep its files in a directory of your own: `{_ELSEWHERE}`",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 and not _is_ews_own_place(path):
        raise UserError(
            f"{path} can be changed by others ({mode:o}): what lies there would be executed",
            f"`chmod go-w {path}` if you trust what is in it, or `{_ELSEWHERE}`",
        )


def _close(path: Path) -> None:
    if _is_ews_own_place(path) and path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o700)


def _is_ews_own_place(path: Path) -> bool:
    """Return whether only ew can have made it. What EW_STATE_DIR names may be anything."""
    return path == state_dir() and "EW_STATE_DIR" not in os.environ and not path.is_symlink()


def _name(uid: int) -> str:
    try:
        return f"`{pwd.getpwuid(uid).pw_name}`"
    except KeyError:
        return f"user {uid}"
