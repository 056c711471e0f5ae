"""Changes to the key file: one at a time, all or nothing, readable by its owner alone."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from contract.key_sharing.copies import copied_keys, read_copy
from contract.key_sharing.shared_keys import SharedKeys
from contract.keys import LONGEST_GLOB, KeyFileError, KeyRecord, NewKey, make_key, read_keys
from contract.logs.rotation import open_privately
from contract.paths import keys_path, make_private, shared_keys_path
from orchestrator.errors import UserError
from orchestrator.system.files import write_atomically
from orchestrator.terminal.speech import printable

_LONGEST_NAME: Final = 64
_LONGEST_NOTE: Final = 200


class KeyFile:
    """The API keys of this installation. Every method may raise `UserError`."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or keys_path()
        self._copy = self._path.with_name(shared_keys_path().name)

    def records(self) -> dict[str, KeyRecord]:
        """All keys by id, also those that are revoked or have expired."""
        try:
            return read_keys(self._path)
        except KeyFileError as error:
            raise unusable(error) from None

    def shared(self) -> SharedKeys | None:
        """The keys of another host that this one follows."""
        try:
            return read_copy(self._copy)
        except KeyFileError as error:
            raise unusable(error) from None

    def all(self) -> dict[str, KeyRecord]:
        """The keys of this host, and those of another that it follows: these go first."""
        try:
            return self.records() | copied_keys(self._copy)
        except KeyFileError as error:
            raise unusable(error) from None

    def require_source(self) -> None:
        """Keys that a person makes are for all hosts."""
        if shared := self.shared():
            raise UserError(
                f"keys for all hosts are made on `{shared.host}`",
                "`./ew keys add` there; this host follows within seconds",
            )

    def add(
        self,
        name: str,
        models: tuple[str, ...] = ("*",),
        expires_unix_s: float | None = None,
        **rights: Any,
    ) -> NewKey:
        """A new key, with what else its record is to say. Its text is in the answer and nowhere
        else."""
        check_words(name=name, **{each: rights.get(each, "") for each in ("owner", "note")})
        check_group(rights.get("group", ""))
        for pattern in models:
            _require_line("a model's glob", pattern, LONGEST_GLOB)
        if not all(models):
            raise UserError("a model's glob is empty: it would open nothing", "`*` opens all")
        new = make_key(name, models, expires_unix_s, **rights)
        with self._changing() as records:
            records[new.record.id] = new.record
        return new

    def revoke(self, key: str) -> KeyRecord:
        """End a key, named by its id or by its name."""
        # A name of nothing leaves nothing behind: no directory, no mutex.
        self._find(self.records(), key)
        with self._changing() as records:
            record = self._find(records, key)
            revoked = msgspec.structs.replace(record, revoked_unix_s=time.time())
            records[record.id] = revoked
        return revoked

    def find(self, key: str) -> KeyRecord:
        """The live key that is named by its id or by its name."""
        return self._find(self.records(), key)

    def change(self, key: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """Change the record of a live key, named by its id or by its name."""
        self.find(key)
        with self._changing() as records:
            changed = change(self._find(records, key))
            records[changed.id] = changed
        return changed

    def describe(self, key: str, **words: str) -> KeyRecord:
        """Change the `name`, `owner` or `note` of a live key."""
        check_words(**words)
        return self.change(key, lambda record: msgspec.structs.replace(record, **words))

    def rotate(self, key: str, overlap_s: float) -> NewKey:
        """A new key with the same rights; the old one works for `overlap_s` longer."""
        now = time.time()
        self._find(self.records(), key)
        with self._changing() as records:
            old = self._find(records, key)
            new = make_key(old.name, old.models)
            own = {name: getattr(new.record, name) for name in ("id", "sha256", "created_unix_s")}
            new = new._replace(record=msgspec.structs.replace(old, revoked_unix_s=None, **own))
            ending = {"revoked_unix_s": now + overlap_s, "anonymous": ""}
            records[old.id] = msgspec.structs.replace(old, **ending)
            records[new.record.id] = new.record
        return new

    def open_to_all(self, key: str, whose: Literal["local", "all"]) -> KeyRecord:
        """Make a key, named by its id or its name, the one for requests without a key."""
        record = self._find(self.records(), key)
        if record.admin:
            raise UserError(
                f"key {record.id} is for administration: requests without a key may not have it",
                "`./ew keys add` makes one without `--admin`",
            )
        with self._changing() as records:
            self._close(records)
            declared = msgspec.structs.replace(self._find(records, record.id), anonymous=whose)
            records[record.id] = declared
        return declared

    def close_to_all(self) -> bool:
        """Have every request need a key. Answers whether that is news."""
        if not any(record.anonymous for record in self.records().values()):
            return False
        with self._changing() as records:
            self._close(records)
        return True

    def _close(self, records: dict[str, KeyRecord]) -> None:
        for record in [each for each in records.values() if each.anonymous]:
            records[record.id] = msgspec.structs.replace(record, anonymous="")

    def forget(self, is_superfluous: Callable[[KeyRecord], bool]) -> None:
        """Remove records without a trace."""
        with self._changing() as records:
            for record in [each for each in records.values() if is_superfluous(each)]:
                del records[record.id]

    def _find(self, records: dict[str, KeyRecord], key: str) -> KeyRecord:
        try:
            return find_live(records, key)
        except UserError as error:
            shared = self.shared()
            if shared and any(key in (each.id, each.name) for each in shared.records):
                raise UserError(
                    f"`{printable(key)}` is a key of the host `{shared.host}`",
                    "change it there; this host follows",
                ) from None
            raise error from None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, KeyRecord]]:
        make_private(self._path.parent)
        with open_privately(self._path.with_suffix(".mutex")) as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            records = self.records()
            yield records
            write_atomically(self._path, msgspec.json.encode(list(records.values())))


def unusable(error: KeyFileError) -> UserError:
    """Return what is told of a file of keys that cannot be used."""
    return UserError(str(error), "mend the file, or take it from a backup with `./ew restore`")


def check_words(name: str = "", owner: str = "", note: str = "") -> None:
    """Raises `UserError` for words that cannot be said of a key."""
    _require_line("a key's name", name)
    _require_line("a key's owner", owner)
    _require_line("a key's note", note, _LONGEST_NOTE)


def check_group(group: str) -> None:
    """Raises `UserError` for the name of a group that there cannot be."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", group):
        raise UserError(
            f"no group can be called `{printable(group)}`", "at most 64 letters, digits, `_.-`"
        )


def _require_line(what: str, text: str, longest: int = _LONGEST_NAME) -> None:
    """Names are shown in tables and logs."""
    if not text.isprintable():
        message = f"{what} is one line of printable characters; this is {ascii(text)[:80]}"
        raise UserError(message, "leave the others out")
    if len(text) > longest:
        raise UserError(f"{what} has {len(text)} characters", f"{longest} are the most")


def find_live(records: dict[str, KeyRecord], key: str) -> KeyRecord:
    """Return the live key with this id, or the only one with this name. Raises `UserError`."""
    now = time.time()
    if key in records and records[key].is_live(now):
        return records[key]
    named = [record for record in records.values() if record.name == key and record.is_live(now)]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(record.id for record in named)
        raise UserError(f"several keys are called `{key}`", f"name one by its id: {ids}")
    raise UserError(f"no live key `{key}`", "`./ew keys list` shows them")
