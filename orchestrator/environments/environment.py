"""The engine environments of this host, as their stamps tell of them.

`<state>/envs/NAME` is an environment, or a link to one that conda keeps elsewhere. Its stamp,
`ew-env.json`, is written last: one without it is unfinished and is not used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from contract.paths import make_private, state_dir
from contract.process.process_table import command_line, read_table
from orchestrator.environments.declaration import load_engines
from orchestrator.errors import UserError
from orchestrator.system.files import write_atomically
from orchestrator.system.mutex import exclusive
from orchestrator.terminal.progress import Say

STAMP: Final = "ew-env.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Environment:
    """One that is complete, and has been seen to work."""

    name: str
    engine: str
    version: str
    #: `uv`, or the conda program that made it.
    manager: str
    #: The versions it was proven with: the engine's library, torch, Python and others.
    versions: dict[str, str]
    #: The devices that the proof saw: `cpu`, or the names of the GPUs.
    device: str
    #: Of the lock that was installed.
    digest: str
    created_unix_s: float
    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def size_bytes(self) -> int:
        """On disk; blocks while tens of thousands of files are counted."""
        return _size(self.path)

    def is_current(self) -> bool:
        """Return whether it is what the declaration asks for today."""
        engine = load_engines().get(self.engine)
        release = engine.releases.get(self.version) if engine else None
        return release is not None and release.digest == self.digest

    def users(self) -> list[int]:
        """Return the pids of the processes that run in it."""
        return [pid for pid in read_table() if command_line(pid).startswith(f"{self.python} ")]


def envs_dir() -> Path:
    return state_dir() / "envs"


def default_env_name(engine: str, version: str | None = None) -> str:
    """`ew-ENGINE`, or `ew-ENGINE-VERSION` for another version than the declared default."""
    declared = load_engines().get(engine)
    if version is None or declared is None or version == declared.default_version:
        return f"ew-{engine}"
    return f"ew-{engine}-{version}"


def require_name(name: str) -> str:
    """Raises `UserError` if no environment can have this name."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"`{name}` cannot be an environment's name", "use letters, digits, `.`, `_` and `-`"
        )
    return name


def find_environment(name: str) -> Environment | None:
    """Return the environment of this name; None if there is none, or only an unfinished one."""
    if not _NAME.fullmatch(name):
        return None
    path = envs_dir() / name
    try:
        stamp: dict[str, Any] = json.loads((path / STAMP).read_text())
        environment = Environment(**stamp, name=name, path=path.resolve())
    except (OSError, ValueError, TypeError):
        return None
    return environment if os.access(environment.python, os.X_OK) else None


def list_environments() -> list[Environment]:
    """Return all complete ones, by name."""
    try:
        names = sorted(path.name for path in envs_dir().iterdir())
    except FileNotFoundError:
        return []
    found = map(find_environment, names)
    return [environment for environment in found if environment is not None]


def list_unfinished() -> list[str]:
    """Return the names of those whose making has not ended, or was broken off."""
    if not envs_dir().exists():
        return []
    names = sorted(path.name for path in envs_dir().iterdir() if not path.name.startswith("."))
    return [name for name in names if find_environment(name) is None]


@contextmanager
def holding(name: str, say: Say) -> Iterator[int]:
    """Hold the mutex of an environment: no other process changes it meanwhile; see `exclusive`."""
    make_private(envs_dir())
    waiting = f"waiting for another process that changes `{name}`"
    with exclusive(envs_dir() / f".{name}.mutex", lambda: say(waiting)) as descriptor:
        yield descriptor


def write_stamp(environment: Environment) -> None:
    """Declare it complete."""
    data = asdict(environment)
    del data["name"], data["path"]
    text = json.dumps(data, indent=2) + "\n"
    write_atomically(environment.path / STAMP, text.encode(), mode=0o644)


def _size(directory: Path) -> int:
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _size(Path(entry.path))
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total
