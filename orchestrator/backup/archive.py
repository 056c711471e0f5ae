"""Making a backup, also while ew runs."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from contract.paths import state_dir
from orchestrator.backup.append_only import MANIFEST, held_open
from orchestrator.backup.contents import LABEL, VALKEY, Label, files
from orchestrator.errors import UserError
from orchestrator.system.files import put_in_place
from orchestrator.system.version import version


def back_up(path: Path, *, external_redis: bool) -> Label:
    """Write the archive, readable by its owner alone; it appears when it is whole.

    Raises `UserError` if there is such a file already, or it cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} is there already", "name a file that is not")
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as raw:  # noqa: PTH123 - a descriptor with its mode set
                label = _write(raw, external_redis=external_redis)
            put_in_place(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"the backup cannot be written: {error}", "see `./ew doctor`") from None
    return label


def _write(raw: BinaryIO, *, external_redis: bool) -> Label:
    with (
        tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as archive,
        held_open(state_dir() / VALKEY) as append_only,
    ):
        is_embedded = append_only is not None and not external_redis
        redis = "embedded" if is_embedded else "external" if external_redis else "none"
        label = Label(version(), time.time(), redis)
        _add_bytes(archive, LABEL, msgspec.json.encode(label))
        for name, path in files():
            try:
                with path.open("rb") as file:
                    _add(archive, name, file)
            except FileNotFoundError:
                continue  # it was deleted meanwhile
        if append_only is not None and is_embedded:
            for name, part in append_only.files.items():
                _add(archive, f"{VALKEY}/{name}", part)
            _add_bytes(archive, f"{VALKEY}/{MANIFEST}", append_only.manifest)
        return label


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO) -> None:
    """Add a file as long as it is now: it may grow meanwhile."""
    status = os.fstat(file.fileno())
    archive.addfile(_entry(name, status.st_size, status.st_mtime), file)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_entry(name, len(content), time.time()), io.BytesIO(content))


def _entry(name: str, size: int, modified: float) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, int(modified), 0o600
    return entry
