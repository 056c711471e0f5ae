"""The keys of another host, which this one follows: kept in a file, so that they are known while
Redis is away, and to commands."""

from __future__ import annotations

from pathlib import Path

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
    return {each.id: each for each in (shared.records if shared else ())}
