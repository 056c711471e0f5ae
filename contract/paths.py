"""Where things lie: ew's own files, the operator's project, and the state that ew keeps (`.ew/` in
the project, or EW_STATE_DIR)."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

#: ew's own files, which are only read: the packages, scripts/, and deploy/ with the engines' locks.
ROOT: Final = Path(__file__).resolve().parent.parent
#: Whether they are a clone, which is a project too, rather than an installed package.
IS_CLONE: Final = (ROOT / "ew").is_file()
#: How people call the command.
COMMAND: Final = "./ew" if IS_CLONE else "ew"
#: A unix socket's path may have 107 bytes; this leaves room for its file name.
_LONGEST_SOCKET_DIR: Final = 80


def as_called(text: str) -> str:
    """Return a text in which `./ew` is what the command is called here."""
    return text.replace("./ew", COMMAND)


def project_dir() -> Path:
    """Return the operator's directory: its configuration, state and logs are here, and paths in
    the configuration are relative to it. It is EW_HOME, which the command of an installed ew
    always sets; else the clone."""
    return Path(os.environ.get("EW_HOME") or ROOT).absolute()


def of_project(name: str) -> Path:
    """Return the file that a configuration means by a name: relative to the project, `~` is the
    user's home."""
    return project_dir() / Path(name).expanduser()


def config_path() -> Path:
    """Return the configuration file: deploy/config.json in the project, or EW_CONFIG."""
    return Path(os.environ.get("EW_CONFIG") or project_dir() / "deploy" / "config.json")


def state_dir() -> Path:
    """Keys, queue data, environments and process state."""
    return Path(os.environ.get("EW_STATE_DIR") or project_dir() / ".ew").absolute()


def logs_dir() -> Path:
    """One log file per process: logs/, or beside a state directory given by EW_STATE_DIR."""
    return state_dir() / "logs" if "EW_STATE_DIR" in os.environ else project_dir() / "logs"


def log_path(process: str) -> Path:
    """Return the log of one process. For each `/` in the process's name, the file's has a `+`,
    which no name has."""
    return logs_dir() / f"{process.replace('/', '+')}.log"


def process_of_log(path: Path) -> str:
    """Return the process that writes a log."""
    return path.name.removesuffix(".log").replace("+", "/")


def keys_path() -> Path:
    return state_dir() / "keys.json"


def shared_keys_path() -> Path:
    """Return this host's copy of the keys of another one, which it follows."""
    return state_dir() / "shared_keys.json"


def published_keys_path() -> Path:
    """Return the file that is there once this host has published its keys for others."""
    return state_dir() / "published_keys.json"


def run_dir() -> Path:
    """Return the private directory for sockets: in the state directory, or in the system's runtime
    directory where that path would be too long for a socket. There may be none yet.

    Raises `PermissionError` if another user owns it, `OSError`.
    """
    path = state_dir() / "run"
    if len(os.fsencode(path)) > _LONGEST_SOCKET_DIR:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        parent = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - ownership is checked
        path = Path(parent) / f"ew-{os.getuid()}-{digest}"
    try:
        status = path.lstat()
    except FileNotFoundError:
        return path
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        reason = "belongs to another user; set EW_STATE_DIR elsewhere"
        raise PermissionError(errno.EPERM, reason, str(path))
    return path


def make_run_dir() -> Path:
    """The same, made if missing, and closed (0700) to other users. Raises `OSError`."""
    path = run_dir()
    make_private(path)
    # Between the check and the making, another user may have made it: check the owner again.
    run_dir().chmod(0o700)
    return path


def make_private(path: Path) -> None:
    """Make a directory, and those above it, where they are missing: closed (0700) to other
    users, whatever the umask is. Raises `OSError`."""
    if path.is_dir():
        return
    make_private(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)
