"""The API keys as the files of this host have them, for one gateway process."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from contract.key_sharing.copies import copied_keys
from contract.keys import (
    REVOKED_WITHIN_S,
    KeyFileError,
    KeyRecord,
    find_anonymous,
    find_key,
    is_well_formed,
    read_keys,
)
from gateway.http.errors import ApiError
from gateway.http.watched_file import WatchedFile

log = logging.getLogger(__name__)
#: The other half is for noticing, and for ending what is open.
_LOOK_EVERY_S: Final = REVOKED_WITHIN_S / 2


class KeyStore:
    """The keys of the key file, and those of another host in the copy of this one, if it follows
    one: a new one opens at once, a revoked one no longer than `_LOOK_EVERY_S`."""

    def __init__(self, path: Path, copy: Path | None = None) -> None:
        #: Why every key is refused, if the file cannot be used.
        self.problem = ""
        #: How often the files were read: what is known of a key is the same until the next time.
        self.reads = 0
        self._records: dict[str, KeyRecord] = {}
        self._path, self._copy = path, copy
        self._files = [WatchedFile(each) for each in (path, copy) if each is not None]
        self._looked = time.monotonic()
        self.read()

    def find(self, text: str) -> KeyRecord | None:
        """The live record of a key. Raises `ApiError` while the key file cannot be used."""
        self.refresh()
        record = self._find(text)
        # It may just have been made. A text that is no key at all costs no look; a key that is not
        # ours costs one `stat`.
        if record is None and is_well_formed(text) and self._have_changed():
            self.read()
            record = self._find(text)
        return record

    def anonymous(self) -> KeyRecord | None:
        """The live record for requests without a key, if one is declared so. Raises `ApiError`
        while the key file cannot be used."""
        self.refresh()
        self._check_file()
        return find_anonymous(self._records, time.time())

    def by_id(self, key_id: str) -> KeyRecord | None:
        """The live record of a key by its id; None if it opens nothing. Raises `ApiError` while
        the key file cannot be used."""
        self.refresh()
        self._check_file()
        record = self._records.get(key_id)
        return record if record is not None and record.is_live(time.time()) else None

    def is_live(self, record: KeyRecord) -> bool:
        """Whether a key that was let in still would be, as far as is known."""
        self.refresh()
        known = self._records.get(record.id)
        return bool(self.problem) or (known is not None and known.is_live(time.time()))

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        if self._have_changed() or self.problem:
            self.read()

    def _have_changed(self) -> bool:
        # Each of them is looked at, so that none is news a second time.
        return True in [each.has_changed() for each in self._files]

    def _find(self, text: str) -> KeyRecord | None:
        self._check_file()
        return find_key(self._records, text, time.time())

    def _check_file(self) -> None:
        if self.problem:
            raise ApiError("keys_unreadable", "API keys cannot be checked at the moment")

    def read(self) -> None:
        """Read the files."""
        self.reads += 1
        try:
            self._records, problem = read_keys(self._path) | copied_keys(self._copy), ""
        except (KeyFileError, OSError) as error:
            self._records, problem = {}, str(error)
        if problem and problem != self.problem:
            log.error("no request is let in: %s", problem)
        self.problem = problem
