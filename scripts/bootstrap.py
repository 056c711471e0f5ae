"""Makes or mends .venv. Called by scripts/bootstrap with any Python >= 3.11, nothing installed.

`.venv/ew.lock` is a copy of the lock that was installed, written last: it is what `ew` compares.
While `.venv/incomplete` exists the environment is being changed. A process that finds it there,
and no other at work, comes after one that was killed, and starts anew.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib.util import find_spec
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.packages.installer import InstallFailed, Uv, find_uv
from orchestrator.packages.lock_file import LockFile, read_lock
from orchestrator.packages.pip_settings import further_places, uv_settings
from orchestrator.system.files import put_in_place
from orchestrator.system.mutex import exclusive
from orchestrator.terminal.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {name: ROOT / "deploy" / f"{name}.lock" for name in ("ew", "dev")}
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
INCOMPLETE = VENV / "incomplete"
MUTEX = VENV / "bootstrap.mutex"


class Bootstrap:
    """Changes .venv. `descriptor` is the mutex, for the processes that it starts to hold too."""

    def __init__(self, progress: Progress, descriptor: int) -> None:
        self._progress = progress
        self._descriptor = descriptor

    def bring_up_to_date(self, names: list[str]) -> None:
        """Raises `UserError`."""
        if INCOMPLETE.exists() or not os.access(PYTHON, os.X_OK):
            self._make()
        for name in names:
            if not is_current(name):
                self._install(name)

    def _make(self) -> None:
        INCOMPLETE.touch()
        for path in VENV.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path not in (MUTEX, INCOMPLETE):
                path.unlink()
        venv.create(VENV, symlinks=True)
        INCOMPLETE.unlink()

    def _install(self, name: str) -> None:
        lock = read_lock(LOCKS[name])
        self._progress.say(f"ew: installing {len(lock.entries)} packages into .venv")
        INCOMPLETE.touch()
        for stamp in LOCKS:
            (VENV / f"{stamp}.lock").unlink(missing_ok=True)
        try:
            uv = Uv(find_uv(PYTHON) or self._fetch_uv(lock), [self._descriptor])
            command = ["pip", "install", "--python", str(PYTHON), *uv.arguments]
            uv.install([*command, "--require-hashes", "-r", str(lock.path)], self._progress.update)
        except InstallFailed as error:
            # It fails before it changes anything: what is there can stay, for the next try.
            INCOMPLETE.unlink()
            raise failure(lock, error) from None
        finally:
            self._progress.clear()
        stamp_as(name)
        INCOMPLETE.unlink()

    def _fetch_uv(self, lock: LockFile) -> str:
        """Install uv alone, as locked, with whatever pip there is."""
        self._progress.update("fetching uv")
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write(lock.only(["uv"]))
            requirements.flush()
            arguments = ["install", "--require-hashes", "--no-deps", "-r", requirements.name]
            self._run([*self._pip(), *arguments])
        return str(PYTHON.with_name("uv"))

    def _pip(self) -> list[str]:
        if find_spec("pip"):
            return [sys.executable, "-m", "pip", "--python", str(PYTHON)]
        self._run([str(PYTHON), "-m", "ensurepip"])
        return [str(PYTHON), "-m", "pip"]

    def _run(self, command: list[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            command,
            env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            pass_fds=[self._descriptor],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise InstallFailed(done.stdout + done.stderr)


def is_current(name: str) -> bool:
    stamp = VENV / f"{name}.lock"
    return stamp.exists() and filecmp.cmp(LOCKS[name], stamp, shallow=False)


def stamp_as(name: str) -> None:
    """Mark the environment as complete. All that dev.lock adds to ew.lock was installed with it."""
    for included in ("ew", name):
        scratch = VENV / f"{included}.lock.new"
        shutil.copyfile(LOCKS[included], scratch)
        put_in_place(scratch, VENV / f"{included}.lock")


def failure(lock: LockFile, error: InstallFailed) -> UserError:
    name = str(lock.path.relative_to(ROOT))
    if error.mismatch:
        return error.mismatch.error(name, further_places({**os.environ, **uv_settings().variables}))
    causes = "".join(f"\n  | {line}" for line in error.causes)
    return UserError(
        f"the {len(lock.entries)} packages of {name} could not be installed into .venv{causes}",
        "without a network, set PIP_INDEX_URL to a mirror, or PIP_NO_INDEX=1 and "
        "PIP_FIND_LINKS=DIR to a folder of wheels; where there is a network, "
        f"`pip download --no-deps --require-hashes -r {name} -d DIR` fills such a folder",
    )


def main() -> int:
    names = ["dev"] if sys.argv[1:] == ["dev"] else ["ew"]
    progress = Progress()
    try:
        with exclusive(
            MUTEX, lambda: progress.say("ew: waiting for another process that makes .venv")
        ) as descriptor:
            Bootstrap(progress, descriptor).bring_up_to_date(names)
    except UserError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
