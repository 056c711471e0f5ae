"""The keys of all hosts, and how they are sealed on their way over Redis.

Who reads Redis learns no hash of a key, and who writes it can make no key: both need the secret
that the hosts with gateways have in a file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from contract.keys import KeyFileError, KeyRecord
from contract.messages import UNREADABLE

_SHORTEST_SECRET: Final = 32


class SharedKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key file of `host` as it was published. `revision` grows with each publication of any
    host; `publisher` tells an installation from all others, also after a reboot."""

    revision: int
    host: str
    publisher: str
    published_unix_s: float
    records: tuple[KeyRecord, ...]


class SealedKeys(NamedTuple):
    """Shared keys as they lie in Redis: JSON in which hashes are masked, and its signature."""

    body: bytes
    signature: bytes


class BadSeal(Exception):
    """Shared keys that cannot be believed; the message says why."""


class SharedSecret:
    """The secret of the hosts that share keys."""

    def __init__(self, secret: bytes) -> None:
        self._signing = _derived(secret, b"ew: the signature of shared keys")
        self._masking = _derived(secret, b"ew: the hashes of shared keys")

    def seal(self, keys: SharedKeys) -> SealedKeys:
        """Raises `KeyFileError` for a record that is none of ew's."""
        try:
            masked = tuple(map(self._masked, keys.records))
        except ValueError as error:
            raise KeyFileError(f"the key file is damaged: {error}") from None
        body = msgspec.json.encode(msgspec.structs.replace(keys, records=masked))
        return SealedKeys(body, self._signature(body))

    def open(self, sealed: SealedKeys) -> SharedKeys:
        """Raises `BadSeal`."""
        if not hmac.compare_digest(sealed.signature, self._signature(sealed.body)):
            raise BadSeal(
                "the keys in Redis are not signed with the secret of this host: it needs the "
                "`keys.secret_file` of the source; if it has that, somebody else has written to "
                "Redis, and `./ew keys share` on the source publishes them again"
            )
        try:
            keys = msgspec.json.decode(sealed.body, type=SharedKeys)
            records = tuple(map(self._masked, keys.records))
        except UNREADABLE as error:
            raise BadSeal(
                f"the keys in Redis are of another version of ew ({error}): update this host"
            ) from None
        return msgspec.structs.replace(keys, records=records)

    def _signature(self, body: bytes) -> bytes:
        return hmac.new(self._signing, body, hashlib.sha256).hexdigest().encode()

    def _masked(self, record: KeyRecord) -> KeyRecord:
        """Return a record with its hash masked, or unmasked again. An id has one hash for ever, so
        each mask is used for one alone."""
        digest = int(record.sha256, 16)
        if f"{digest:064x}" != record.sha256:
            raise ValueError(f"the key {record.id} has no SHA-256")
        mask = hmac.digest(self._masking, record.id.encode(), "sha256")
        masked = digest ^ int.from_bytes(mask, "big")
        return msgspec.structs.replace(record, sha256=f"{masked:064x}")


def read_secret(path: Path) -> SharedSecret:
    """Raises `KeyFileError` if the file cannot be used."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read().strip()
    except OSError as error:
        raise KeyFileError(f"`keys.secret_file`: {path}: {error.strerror}") from None
    if mode & 0o007:
        raise KeyFileError(f"{path} can be read by others; run `chmod 600 {path}`")
    if len(secret) < _SHORTEST_SECRET:
        hint = f"`openssl rand -hex 32 > {path}` makes one"
        raise KeyFileError(f"{path} has fewer than {_SHORTEST_SECRET} characters; {hint}")
    return SharedSecret(secret)


def names_of(sealed: SealedKeys) -> dict[str, str]:
    """Return the names of keys by id, to be shown where the secret is not known: nothing says that
    they are true."""
    try:
        records = msgspec.json.decode(sealed.body, type=SharedKeys).records
    except UNREADABLE:
        return {}
    return {each.id: each.name for each in records}


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.new(secret, purpose, hashlib.sha256).digest()
