"""uv at work: it installs locked packages into a Python environment, and tells how far it is.

Standard library only: the bootstrap uses it before anything is installed.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, cast

from orchestrator.errors import UserError
from orchestrator.packages.download import PackageDownload
from orchestrator.packages.mismatch import Mismatch, find_mismatch
from orchestrator.packages.pip_settings import (
    further_places,
    registry_alone,
    uv_settings,
)

_OLDEST_UV: Final = (0, 5)
_TICK_S: Final = 0.5
_STOP_S: Final = 5.0
_PROBE_S: Final = 4.0


class InstallFailed(Exception):
    """uv gave up. `output` is what it said; `causes` are the lines that say why."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output

    @property
    def causes(self) -> list[str]:
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        first = next((at for at, line in enumerate(lines) if line.startswith("error")), -8)
        return lines[first:][:8]

    @property
    def mismatch(self) -> Mismatch | None:
        """The file whose hash was wrong, if that is why."""
        return find_mismatch(self.output)


class Uv:
    """A uv program, run with the user's pip settings. Whatever it runs inherits `descriptors`.

    `arguments` belong into each of its installing commands.
    """

    def __init__(
        self,
        program: str,
        descriptors: Sequence[int] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._program = program
        self.descriptors = descriptors
        self._environ = environ
        settings = uv_settings(environ)
        self._environment = _without_python({**environ, **settings.variables})
        self.arguments = settings.arguments
        if not _can_cache(self._environment):
            self.arguments = [*self.arguments, "--no-cache"]

    @property
    def is_offline(self) -> bool:
        """Whether the user wants no package index to be asked."""
        switches = (self._environment.get(name, "") for name in ("UV_OFFLINE", "UV_NO_INDEX"))
        return "--no-index" in self.arguments or any(each in ("1", "true") for each in switches)

    def with_index(self, index: str | None) -> dict[str, str]:
        """Return the variables that make it ask one more index. The best version of all wins, as
        in pip; for what is locked, the hash says which file that must be."""
        if index is None:
            return {}
        indexes = [index, self._environment.get("UV_INDEX", "")]
        return {"UV_INDEX": " ".join(indexes).strip(), "UV_INDEX_STRATEGY": "unsafe-best-match"}

    def find_python(self, versions: Sequence[str]) -> Path | None:
        """Return the interpreter of the first of these versions that this host has."""
        for version in versions:
            command = [self._program, "python", "find", "--system", "--no-project", version]
            found = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, check=False
            )
            if found.returncode == 0:
                return Path(found.stdout.strip())
        return None

    @property
    def places(self) -> list[str]:
        """Where it looks for packages besides the one index."""
        return further_places(self._environment)

    def install(
        self,
        arguments: Sequence[str],
        on_progress: Callable[[str], None],
        index: str | None = None,
    ) -> str:
        """As `run`, for `pip install`, which may ask one more `index`. Among the user's folders
        and further indexes there may be another build of a locked version, and uv takes the
        first that it finds: then it is run again, with the registry alone."""
        try:
            return self.run(arguments, on_progress, self.with_index(index))
        except InstallFailed as error:
            can_retry = self.places and not self.is_offline and "--no-index" not in arguments
            if error.mismatch is None or not can_retry:
                raise
            try:
                uv = Uv(self._program, self.descriptors, registry_alone(self._environ))
                return uv.run(arguments, on_progress, uv.with_index(index))
            except (InstallFailed, UserError):
                raise error from None

    def run(
        self,
        arguments: Sequence[str],
        on_progress: Callable[[str], None],
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Return what uv said; `on_progress` hears of it twice a second. Raises
        `InstallFailed`: nothing was changed then."""
        process = subprocess.Popen(
            [self._program, *arguments],
            env={**self._environment, "NO_COLOR": "1", **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=self.descriptors,
        )
        try:
            output = _follow(cast(IO[bytes], process.stdout), on_progress)
        finally:
            _end(process)
        if process.returncode != 0:
            raise InstallFailed(output)
        return output


def find_uv(python: Path = Path(sys.executable)) -> str | None:
    """Return the uv beside `python`, which is the locked one; else one on the PATH that works."""
    beside = python.parent / "uv"
    if beside.is_file():
        return str(beside)
    found = shutil.which("uv")
    return found if found and _version(found) >= _OLDEST_UV else None


def _version(program: str) -> tuple[int, ...]:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found and answer.returncode == 0 else ()


def _follow(stream: IO[bytes], on_progress: Callable[[str], None]) -> str:
    """Read to the end, with a word of progress at least twice a second."""
    download = PackageDownload()
    output = b""
    read_to = 0
    with stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if selector.select(_TICK_S):
                piece = os.read(stream.fileno(), 65536)
                if not piece:
                    return output.decode(errors="replace")
                output += piece
            *lines, _ = output[read_to:].split(b"\n")
            for line in lines:
                read_to += len(line) + 1
                download.read(line.decode(errors="replace"))
            on_progress(str(download))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for it; when we are interrupted ourselves, make it stop first."""
    if sys.exc_info()[0] is not None:
        process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _without_python(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a virtual environment or PYTHONPATH of the caller must not leak into another
    Python."""
    leaking = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON")
    return {name: value for name, value in environ.items() if name not in leaking}


def _can_cache(environ: Mapping[str, str]) -> bool:
    if "UV_CACHE_DIR" in environ:
        return True
    home = Path(environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    existing = next(parent for parent in (home, *home.parents) if parent.exists())
    return os.access(existing, os.W_OK)


def is_reachable(index: str) -> bool:
    """Return whether a package index answers within seconds."""
    try:
        with urllib.request.urlopen(index.rstrip("/") + "/", timeout=_PROBE_S):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
