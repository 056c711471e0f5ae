"""The way back from a backup, all of it or nothing."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from contract.messages import UNREADABLE
from contract.paths import make_private, state_dir
from orchestrator.backup.contents import IN_STATE, LABEL, VALKEY, Label, place_of
from orchestrator.errors import UserError

_TOP = (*IN_STATE, "config.json", "audit.log", VALKEY.split("/")[0])


class Restored(NamedTuple):
    """The backup's own words, and where its configuration lies if another one is in its place."""

    label: Label
    config_aside: Path | None


def restore(path: Path) -> Restored:
    """Put everything of a backup in its place. Nothing may run, and nothing that it has may be
    there already, but for the configuration: that of the backup is then put beside it.

    Raises `UserError`; nothing is changed then.
    """
    make_private(state_dir())
    with _opened(path) as archive, tempfile.TemporaryDirectory(dir=state_dir()) as scratch:
        label = _read_label(archive, path)
        _unpack(archive, Path(scratch), path)
        found = sorted(each.name for each in Path(scratch).iterdir())
        aside = _config_aside(Path(scratch)) if "config.json" in found else None
        for name in found:
            if name != "config.json" and place_of(name).exists():
                hint = "move it away, or restore into a state directory of its own (EW_STATE_DIR)"
                raise UserError(f"{place_of(name)} is there already", hint)
        for name in found:
            target = aside if name == "config.json" and aside else place_of(name)
            make_private(target.parent)
            shutil.move(Path(scratch, name), target)
    return Restored(label, aside)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        hint = "was it copied to its end?"
        raise UserError(f"{path} is no whole backup: {error}", hint) from None
    except OSError as error:
        raise UserError(f"{path} cannot be restored: {error}", "see `./ew doctor`") from None


def _read_label(archive: tarfile.TarFile, path: Path) -> Label:
    first = archive.next()
    file = archive.extractfile(first) if first and first.name == LABEL else None
    try:
        if file is not None:
            return msgspec.json.decode(file.read(), type=Label)
    except UNREADABLE:
        pass
    raise UserError(f"{path} is no backup of ew", "`./ew backup FILE` makes one")


def _unpack(archive: tarfile.TarFile, scratch: Path, path: Path) -> None:
    """Write the files below a folder, each private; nothing else is taken."""
    while (entry := archive.next()) is not None:
        parts = Path(entry.name).parts
        if not entry.isreg() or parts[0] not in _TOP or ".." in parts:
            raise UserError(
                f"{path} has `{entry.name}`, which no backup of ew has",
                "`ew backup` did not make it: do not use it",
            )
        content = archive.extractfile(entry)
        target = scratch / entry.name
        make_private(target.parent)
        target.touch(mode=0o600)
        with target.open("wb") as file:
            shutil.copyfileobj(content or (), file)  # type: ignore[arg-type]


def _config_aside(scratch: Path) -> Path | None:
    """Return where the configuration goes if there is another one; None if it has its place."""
    there = place_of("config.json")
    if not there.exists() or there.read_bytes() == (scratch / "config.json").read_bytes():
        return None
    return state_dir() / "config.json.restored"
