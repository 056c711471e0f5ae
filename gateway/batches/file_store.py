"""Uploaded files, and those that batches make: one directory, each file with a record beside it."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from contract.config import FilesConfig
from contract.messages import UNREADABLE
from contract.paths import make_private

_ID: Final = re.compile(r"file-[0-9a-f]{24}")
_PART: Final = ".part"
#: An upload looks whether there is room for so much more at a time, and takes it.
_STEP: Final = 4 << 20
#: Of one key; each list of them is read from the disk.
_MOST_FILES: Final = 10_000
#: An upload that has not grown for so long was left by a process that died.
_ABANDONED_S: Final = 3600.0


class StoreFull(Exception):
    """A file would take more than it may; the message says which bound."""


class FileRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a file. Times are Unix seconds."""

    id: str
    key_id: str
    filename: str
    purpose: str
    bytes: int
    created_unix_s: int
    expires_unix_s: int


_decode = msgspec.json.Decoder(FileRecord).decode


class FileStore:
    """The files of all keys on this host. Every process may use it: a file is complete once its
    record is there, and does not change. All methods block on the disk."""

    def __init__(self, directory: Path, config: FilesConfig) -> None:
        self.config = config
        self._directory = directory

    def begin(self, key_id: str) -> Upload:
        """Begin a file. Raises `OSError`."""
        make_private(self._directory)
        return Upload(self, key_id, self._directory / f"{new_file_id()}~{key_id}{_PART}")

    def find(self, file_id: str) -> FileRecord | None:
        """Return a file's record, None if there is none or its time is up."""
        if not _ID.fullmatch(file_id):
            return None
        try:
            return self._unexpired(file_id)
        except OSError:
            return None

    def path(self, file_id: str) -> Path:
        """Return the path of a file's content."""
        return self._directory / f"{file_id}.data"

    def of_key(self, key_id: str) -> list[FileRecord]:
        """Return the files of a key, the newest first."""
        records = (self.find(file_id) for file_id in self._ids())
        found = [each for each in records if each is not None and each.key_id == key_id]
        return sorted(found, key=lambda each: (each.created_unix_s, each.id), reverse=True)

    def remove(self, file_id: str) -> None:
        """Remove a file. The record goes first: without it the content has no owner."""
        self._record(file_id).unlink(missing_ok=True)
        self.path(file_id).unlink(missing_ok=True)

    def take(self, path: Path, record: FileRecord) -> None:
        """Take a complete file from elsewhere on this host. Safe to repeat after a crash.

        Raises `OSError`.
        """
        make_private(self._directory)
        if path.exists():
            self._move(path, record)
        new = self._directory / f"{record.id}.new"
        new.write_bytes(msgspec.json.encode(record))
        new.replace(self._record(record.id))

    def _move(self, path: Path, record: FileRecord) -> None:
        try:
            path.replace(self.path(record.id))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # It is on another disk. Of a copy that breaks off, `tidy` removes what there is.
            copy = self._directory / f"{record.id}~{record.key_id}{_PART}"
            copy.touch(mode=0o600)
            shutil.copyfile(path, copy)
            copy.replace(self.path(record.id))
            path.unlink()

    def tidy(self) -> None:
        """Remove what has expired, and what processes that died had begun."""
        now = time.time()
        for path in self._entries():
            if path.suffix == _PART and now - path.stat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
        for file_id in self._ids():
            # One that cannot be read at the moment stays.
            with suppress(OSError):
                if self._unexpired(file_id) is None:
                    self.remove(file_id)

    def check_room(self, key_id: str, size: int, upload: Path) -> None:
        """See whether an upload of a key may have `size` bytes beside all other files and uploads.
        Raises `StoreFull`."""
        if size > self.config.max_file_bytes:
            raise StoreFull(f"a file may have {self.config.max_file_bytes} bytes")
        files, parts = self.of_key(key_id), self._parts(upload)
        if len(files) >= _MOST_FILES:
            raise StoreFull(f"one key may have {_MOST_FILES} files; delete some")
        own = sum(each.bytes for each in files)
        own += sum(taken for path, taken in parts if path.stem.endswith(f"~{key_id}"))
        if own + size > self.config.max_bytes_per_key:
            most = self.config.max_bytes_per_key
            raise StoreFull(f"the files of one key may have {most} bytes; delete some")
        used = sum(_size(path) for path in self._entries() if path.suffix == ".data")
        if used + sum(taken for _, taken in parts) + size > self.config.max_bytes:
            raise StoreFull("the disk space for files is used up")

    def _parts(self, but: Path) -> list[tuple[Path, int]]:
        """Return the other uploads that are under way, and how many bytes each may write before it
        looks again."""
        parts = [path for path in self._entries() if path.suffix == _PART and path != but]
        return [(path, _stepped(_size(path) + 1)) for path in parts]

    def _record(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.json"

    def _entries(self) -> Iterator[Path]:
        return iter(list(self._directory.iterdir()) if self._directory.is_dir() else ())

    def _ids(self) -> Iterator[str]:
        return (path.stem for path in self._entries() if path.suffix == ".json")

    def _unexpired(self, file_id: str) -> FileRecord | None:
        """Return a file's record, None if its time is up or it is damaged. Raises `OSError`."""
        try:
            record = _decode(self._record(file_id).read_bytes())
        except UNREADABLE:
            return None
        return record if record.expires_unix_s > time.time() else None


class Upload:
    """A file that is being written."""

    def __init__(self, store: FileStore, key_id: str, path: Path) -> None:
        self._store = store
        self._key_id = key_id
        self._path = path
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self.size = self._checked = 0

    def write(self, data: bytes) -> None:
        """Raises `StoreFull`, `OSError`."""
        self.size += len(data)
        if self.size > self._checked:
            self._checked = min(_stepped(self.size), self._store.config.max_file_bytes)
            self._store.check_room(self._key_id, max(self.size, self._checked), self._path)
        self._file.write(data)

    def finish(self, filename: str, purpose: str, keep_s: float) -> FileRecord:
        """Make it a file. Raises `StoreFull`, `OSError`."""
        self._store.check_room(self._key_id, self.size, self._path)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        now = int(time.time())
        file_id = self._path.name.partition("~")[0]
        ends = now + int(keep_s)
        record = FileRecord(file_id, self._key_id, filename, purpose, self.size, now, ends)
        self._store.take(self._path, record)
        return record

    def abandon(self) -> None:
        """Remove what was written."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # It has no room for its last bytes, maybe.
            self._file.close()


def _stepped(size: int) -> int:
    return -(-size // _STEP) * _STEP


def _size(path: Path) -> int:
    """Return the size of a file, 0 if it has just gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def new_file_id() -> str:
    return f"file-{secrets.token_hex(12)}"
