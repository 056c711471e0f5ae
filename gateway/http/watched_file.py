"""A file that others replace or rewrite while we run."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[int, int, int] | None


class WatchedFile:
    """Tells when a file, or its permissions, have changed. A look costs one `stat`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._stamp()

    def has_changed(self) -> bool:
        """Return whether it changed, appeared or vanished since the last call (or the start)."""
        before, self._seen = self._seen, self._stamp()
        return before != self._seen

    def _stamp(self) -> _Stamp:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ctime_ns, status.st_ino, status.st_size
