"""Whether ew's directories have room, and are as private as they should be."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contract.model_files.hub_cache import cache_dir
from contract.paths import logs_dir, run_dir, state_dir
from orchestrator.environments.preflight import Check
from orchestrator.terminal.speech import mebibytes

#: With less, the next log line, queue entry or key may be the one that fails.
_FULL_MIB: Final = 64
_SCARCE_MIB: Final = 1024
_FEW_INODES: Final = 100
_ELSEWHERE: Final = "EW_STATE_DIR can name another place"
#: Files whose content opens something, or is private.
_PRIVATE: Final = ("keys.json", "quickstart.key", "chat_history")


def room() -> Iterator[Check]:
    """Yield the directories that ew writes into."""
    yield _room("state", state_dir(), _ELSEWHERE)
    yield _room("logs", logs_dir(), _ELSEWHERE)
    yield _room("temporary files", Path(tempfile.gettempdir()), "TMPDIR can name another place")
    yield _room("model cache", cache_dir(), "HF_HOME can name another place")


def privacy() -> Iterator[Check]:
    """Which users may look at what ew keeps, and which may change it."""
    yield _umask()
    for path in (state_dir(), run_dir()):
        yield from _privacy(path, 0o700)
    for name in _PRIVATE:
        yield from _privacy(state_dir() / name, 0o600)


def _room(what: str, directory: Path, elsewhere: str) -> Check:
    """Return what there is under a directory that may not have been made yet."""
    place = next(path for path in (directory, *directory.parents) if path.exists())
    if not place.is_dir():
        return Check(what, f"{place} is no directory", f"move it away; {elsewhere}", True)
    disk = os.statvfs(place)
    free_mib = disk.f_bavail * disk.f_frsize / 2**20
    seen = f"{directory}, {mebibytes(free_mib)} free"
    if disk.f_flag & os.ST_RDONLY or not os.access(place, os.W_OK | os.X_OK):
        return Check(what, f"{place} cannot be written", f"make it so; {elsewhere}", True)
    if disk.f_files and disk.f_favail < _FEW_INODES:
        return Check(what, f"{directory}: no more files fit", f"remove some; {elsewhere}", True)
    if free_mib < _FULL_MIB:
        fix = f"the disk is full: free some space (`df -h {place}`); {elsewhere}"
        return Check(what, seen, fix, is_fatal=True)
    return Check(what, seen, f"that is little; {elsewhere}" if free_mib < _SCARCE_MIB else "")


def _umask() -> Check:
    # It can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    if mask & 0o002:
        return Check("umask", f"{mask:03o}")
    return Check("umask", f"{mask:03o}: what is made can be changed by everybody", "`umask 022`")


def _privacy(path: Path, wanted: int) -> Iterator[Check]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    mode = stat.S_IMODE(status.st_mode)
    cure = f"`chmod {wanted:o} {path}`"
    if status.st_uid != os.getuid():
        fix = "run ew as that user, or set EW_STATE_DIR to a directory of yours"
        yield Check("owner", f"{path} belongs to user {status.st_uid}", fix, is_fatal=True)
    elif mode & 0o022:
        yield Check("mode", f"{path} can be changed by others ({mode:o})", cure, is_fatal=True)
    elif mode & ~wanted & 0o077:
        yield Check("mode", f"{path} can be looked at by others ({mode:o})", cure)
