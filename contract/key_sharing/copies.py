"""The keys of another host, which this one follows: kept in a file, so that they are known while
Redis is away, and to commands."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from contract.key_sharing.shared_keys import SharedKeys
from contract.keys import KeyRecord, read_private


def read_copy(path: Path) -> SharedKeys | None:
    """Return the copy of a host that follows another one; None if it does not. Raises
    `KeyFileError`."""
    return read_private(path, SharedKeys)


def copied_keys(path: Path | None) -> dict[str, KeyRecord]:
    """Return the keys in the copy by their ids; none if there is no copy. They go before the host's
    own. Raises `KeyFileError`."""
    shared = read_copy(path) if path else None
    if shared is None:
        return {}
    ended_by = shared.published_unix_s
    return {each.id: _ended(each, ended_by) for each in shared.records}


def _ended(record: KeyRecord, ended_by: float) -> KeyRecord:
    """A key that had ended by the clock of the source has ended here, also if this clock is
    behind."""
    revoked, expires = (
        end if end is None or end > ended_by else min(end, time.time())
        for end in (record.revoked_unix_s, record.expires_unix_s)
    )
    if (revoked, expires) == (record.revoked_unix_s, record.expires_unix_s):
        return record
    return msgspec.structs.replace(record, revoked_unix_s=revoked, expires_unix_s=expires)
