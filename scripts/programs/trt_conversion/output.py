"""The directory that is made: hidden beside its place until it is complete, so that what is there
is always whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType

from programs.trt_conversion.manifest import NAME, read_manifest
from programs.trt_conversion.problem import Problem


class Output:
    """Held by one conversion at a time. Files that were not published are gone at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hidden = path.with_name(f".{path.name}.partial")
        self._replaced = path.with_name(f".{path.name}.replaced")
        self._mutex_path = path.with_name(f".{path.name}.mutex")
        self._mutex = -1

    @property
    def directory(self) -> Path:
        """Where the files are to be put."""
        return self._hidden / "made"

    @property
    def workspace(self) -> Path:
        """For what is needed on the way, on the same disk."""
        return self._hidden / "workspace"

    def __enter__(self) -> Output:
        """Raises `Problem` if another conversion is at it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mutex = os.open(self._mutex_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._mutex)
            raise Problem(f"another conversion is making {self.path}", "wait for it") from None
        self._tidy()
        self.directory.mkdir(parents=True)
        self.workspace.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tidy()
        self._mutex_path.unlink(missing_ok=True)
        os.close(self._mutex)

    def publish(self) -> None:
        """Put what was made in its place, and remove what was there."""
        if self.path.exists():
            self.path.rename(self._replaced)
        self.directory.rename(self.path)

    def _tidy(self) -> None:
        """Also after a conversion that was killed, at whatever moment."""
        if self._replaced.exists() and not self.path.exists():
            self._replaced.rename(self.path)
        shutil.rmtree(self._replaced, ignore_errors=True)
        shutil.rmtree(self._hidden, ignore_errors=True)


def require_replaceable(path: Path) -> None:
    """Raises `Problem` for a directory that no conversion has made: it is not ours to remove."""
    if not path.exists() or read_manifest(path) is not None:
        return
    if not path.is_dir() or any(path.iterdir()):
        raise Problem(
            f"{path} exists, and was not made by a conversion (it has no {NAME})",
            "choose another --output, or remove it yourself",
        )
