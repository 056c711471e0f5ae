"""The clients' own environments, in `.ew/clients`: made where they are missing or older than the
locks beside this file. They have nothing in common with those of ew and of its tests."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract.paths import ROOT
from orchestrator.packages.installer import InstallFailed, Uv, find_uv

HERE: Final = Path(__file__).parent
_ENVIRONMENTS: Final = ROOT / ".ew" / "clients"
_LOCK: Final = HERE / "python.lock"
#: Words of uv and npm where there is no network, or none is to be used.
_OFFLINE: Final = ("dns error", "error sending request", "ENOTFOUND", "EAI_AGAIN", "ENOTCACHED")


class CannotInstall(Exception):
    """There is no network, or no program that installs; says which."""


def python(name: str = "python", lock: Path = _LOCK) -> Path:
    """A Python that has the clients, or the packages of another lock. Raises `CannotInstall`;
    `InstallFailed` if the lock is to blame."""
    environment = _ENVIRONMENTS / name
    with _one_at_a_time(), _unless_current(environment, lock) as is_current:
        if not is_current:
            uv = Uv(find_uv() or "uv")
            make = ["venv", "--quiet", "--clear", "--python", sys.executable, str(environment)]
            install = ["pip", "install", "--require-hashes", "--no-deps", "-r", str(lock)]
            try:
                uv.run(make, _ignore)
                uv.install([*install, "--python", str(environment), *uv.arguments], _ignore)
            except InstallFailed as error:
                _raise_if_offline(error.output, known=uv.is_offline)
                raise
    return environment / "bin" / "python"


def node(name: str = "node", source: Path = HERE / "node") -> Path:
    """A folder with the clients for JavaScript, and the programs that use them; or with the files
    of another source, and the packages of its lock. Raises as `python`."""
    environment = _ENVIRONMENTS / name
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise CannotInstall("there is no node or no npm on the PATH")
    with _one_at_a_time(), _unless_current(environment, source / "package-lock.json") as is_current:
        shutil.copytree(source, environment, dirs_exist_ok=True)
        if not is_current:
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(
                command, cwd=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                _raise_if_offline(done.stderr, known=False)
                raise InstallFailed(done.stderr)
    return environment


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    _ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (_ENVIRONMENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _unless_current(environment: Path, lock: Path) -> Iterator[bool]:
    """Whether the environment was made from the lock as it is now; once the block has ended without
    an error, it was."""
    copy = environment.with_suffix(".lock")
    is_current = copy.exists() and copy.read_bytes() == lock.read_bytes()
    yield is_current
    if not is_current:
        shutil.copyfile(lock, copy)


def _raise_if_offline(output: str, *, known: bool) -> None:
    said = [line for line in output.splitlines() if any(word in line for word in _OFFLINE)]
    if known or said:
        raise CannotInstall(f"there is no network for the clients: {[*said, 'offline'][0].strip()}")


def _ignore(_: str) -> None:
    """Progress is for people."""
