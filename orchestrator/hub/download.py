"""Fetching a repository into the cache of Hugging Face's libraries, which find it there.

huggingface_hub gives the addresses, the token and the session. The transfer is ours: its own throws
away what it has of a file when it is interrupted (2.4.0), and these files may take hours.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import httpx2
from huggingface_hub import constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from contract.model_files.hub_cache import PARTIAL, commit_of, repo_dir, snapshot_dir
from orchestrator.errors import UserError
from orchestrator.hub.remote import Remote, RemoteFile, explained
from orchestrator.system.files import put_in_place
from orchestrator.terminal.speech import mebibytes

_AT_ONCE: Final = 4
_MIB: Final = 2**20
#: So long a file may stand still, while the connection is tried again and again.
_PATIENCE_S: Final = 300.0
_RETRY_S: Final = 2.0
_BUSY: Final = (408, 429, 500, 502, 503, 504)
#: Disk space for other writers meanwhile.
_SPARE_BYTES: Final = 512 * _MIB


class Watcher(Protocol):
    """Is told how it goes, from several threads."""

    def began(self, file: RemoteFile, there_bytes: int) -> None: ...

    def came(self, file: RemoteFile, more_bytes: int) -> None:
        """More of a file; less than nothing if its beginning has to come again."""

    def ended(self, file: RemoteFile) -> None: ...

    def waits(self, file: RemoteFile, reason: str) -> None:
        """The connection is lost; it is tried again."""


class Download:
    """The files of one repository that are still to come."""

    def __init__(self, remote: Remote, wanted: Sequence[str]) -> None:
        self._remote = remote
        self._blobs = repo_dir(remote.repo) / "blobs"
        self.directory = snapshot_dir(remote.repo, remote.commit)
        self.files = [file for file in remote.files if file.path in wanted]
        self.missing = [file for file in self.files if not (self.directory / file.path).exists()]
        self._stopping = threading.Event()

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """The bytes that are still to be fetched."""
        return sum(file.size_bytes - self._there(file) for file in self.missing)

    def require_room(self) -> None:
        """Raises `UserError` if the disk has no room for the rest."""
        place = next(path for path in (self._blobs, *self._blobs.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if self.missing_bytes + _SPARE_BYTES > free:
            needed = mebibytes((self.missing_bytes + _SPARE_BYTES) / _MIB)
            raise UserError(
                f"{self._remote.repo} needs {needed}; {place} has {mebibytes(free / _MIB)} free",
                "make room (`./ew models rm`), or set HF_HOME to a larger disk",
            )

    def run(self, watcher: Watcher) -> Path:
        """Fetch all that is missing, several files at once. Returns the directory with all files.

        Raises `UserError`. The part that has come stays, also of files that are not complete.
        """
        with self._alone(), explained(self._remote.repo, self._remote.revision):
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                running = [threads.submit(self._fetch, file, watcher) for file in self.missing]
                self._wait_for(running)
            self._note_revision()
        return self.directory

    def _wait_for(self, running: Sequence[Future[None]]) -> None:
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            # One that failed, or Ctrl-C: the others end with their next piece.
            self._stopping.set()
            for future in running:
                future.cancel()

    def _fetch(self, file: RemoteFile, watcher: Watcher) -> None:
        blob = self._blobs / file.etag
        if not blob.exists():
            watcher.began(file, self._there(file))
            if file.size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
                # Only Xet's own protocol has files as large as that.
                hf_hub_download(self._remote.repo, file.path, revision=self._remote.commit)
            else:
                self._fetch_blob(file, blob, watcher)
        _link(blob, self.directory / file.path)
        watcher.ended(file)

    def _fetch_blob(self, file: RemoteFile, blob: Path, watcher: Watcher) -> None:
        partial = self._partial(file)
        was_there = self._there(file) > 0
        with partial.open("ab") as target:
            self._transfer(file, target, watcher)
        if was_there and file.sha256 and _sha256(partial) != file.sha256:
            partial.unlink()
            raise UserError(
                f"{file.path} came in parts that do not belong together", "fetch it once more"
            )
        put_in_place(partial, blob)

    def _transfer(self, file: RemoteFile, target: BinaryIO, watcher: Watcher) -> None:
        """Until it is complete, through interruptions of the connection."""
        came_at = time.monotonic()
        while target.tell() < file.size_bytes:
            before = target.tell()
            try:
                self._receive(file, target, watcher)
            except (httpx2.TransportError, OSError) as error:
                if target.tell() > before:
                    came_at = time.monotonic()
                if not _may_pass(error) or time.monotonic() - came_at > _PATIENCE_S:
                    raise
                watcher.waits(file, str(error).partition("\n")[0] or type(error).__name__)
                if self._stopping.wait(_RETRY_S):
                    raise

    def _receive(self, file: RemoteFile, target: BinaryIO, watcher: Watcher) -> None:
        """Ask once for what is missing, and append what comes."""
        there = target.tell()
        url = hf_hub_url(self._remote.repo, file.path, revision=self._remote.commit)
        headers = build_hf_headers() | {"Accept-Encoding": "identity", "Range": f"bytes={there}-"}
        timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout_s) as response:
            hf_raise_for_status(response)
            if there and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                # It knows no ranges: everything comes again.
                target.truncate(0)
                watcher.came(file, -there)
            for piece in response.iter_bytes():
                target.write(piece)
                watcher.came(file, len(piece))
                if self._stopping.is_set():
                    raise _Stopped
        if target.tell() != file.size_bytes:
            raise OSError(f"{target.tell()} bytes came of {file.size_bytes}")

    def _there(self, file: RemoteFile) -> int:
        """Return how much of a missing file is here."""
        if (self._blobs / file.etag).exists():
            return file.size_bytes
        partial = self._partial(file)
        return min(partial.stat().st_size, file.size_bytes) if partial.exists() else 0

    def _partial(self, file: RemoteFile) -> Path:
        return self._blobs / f"{file.etag}.ew{PARTIAL}"

    def _note_revision(self) -> None:
        """Point the revision's name at the commit: libraries ask for `main`, not for a commit."""
        revision, commit = self._remote.revision, self._remote.commit
        if revision != commit and commit_of(self._remote.repo, revision) != commit:
            path = repo_dir(self._remote.repo) / "refs" / revision
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two that append to the same file would spoil it."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        with (self._blobs.parent / ".ew-pull.mutex").open("w") as mutex:
            try:
                fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self._remote.repo} is being fetched already", "wait for that to end"
                ) from None
            yield


class _Stopped(Exception):
    """Another file failed, or the user has had enough."""


def _may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later: the connection was lost, an answer
    ended too early (an `OSError` without a number), or the hub is busy."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _BUSY
    return isinstance(error, httpx2.TransportError) or getattr(error, "errno", None) is None


def _link(blob: Path, path: Path) -> None:
    """Put a blob's content at a path of the snapshot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(os.path.relpath(blob, path.parent))
    except OSError:
        # A file system without links.
        shutil.copyfile(blob, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
