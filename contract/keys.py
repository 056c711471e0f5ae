"""API keys: `ew_<id>_<secret>_<checksum>`. Only the secret's SHA-256 is kept.

The secret has 256 random bits, so a plain fast hash is enough. The checksum lets a scanner (or
a person) tell a mistyped key from a revoked one without a look at the key file.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import os
import re
import secrets
import time
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from contract.asked import PriorityClass
from contract.limits import NO_LIMITS, KeyLimits
from contract.messages import UNREADABLE

#: A key that was revoked, or has expired, opens nothing after so many seconds, and its open answers
#: have ended. A gateway looks twice a second.
REVOKED_WITHIN_S: Final = 1
#: The same on the other hosts that share the key, while Redis answers.
REVOKED_ELSEWHERE_WITHIN_S: Final = 3
#: Of a glob over model ids, in characters: any id (`ModelId`) is one, too.
LONGEST_GLOB: Final = 128
Form = TypeVar("Form")
_FORM = re.compile(r"ew_([a-z0-9]{8})_([A-Za-z0-9]{43})_([0-9a-f]{8})")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The record of a key. `models` are globs over model ids; times are Unix seconds."""

    id: str
    sha256: str
    name: str = ""
    models: tuple[str, ...] = ("*",)
    created_unix_s: float = 0.0
    expires_unix_s: float | None = None
    revoked_unix_s: float | None = None
    #: Whether it may read the gateway's metrics; a key for all models may anyway.
    metrics: bool = False
    #: Whether it may use the administration API: see and change what runs, and make keys.
    admin: bool = False
    #: Its share of a model, beside those of other keys that wait.
    weight: float = 1.0
    #: The class of its requests, if they ask for no later one; and the lowest number they may ask.
    priority: PriorityClass = "normal"
    lowest_priority: int = 0
    #: It is the key of requests that send none: `local` of those from this host, `all` of any.
    anonymous: Literal["", "local", "all"] = ""
    #: Who answers for it, and what there is to remember of it.
    owner: str = ""
    note: str = ""
    #: Whom it shares limits with; and its own limits, in place of the configuration's.
    group: str = ""
    limits: KeyLimits = NO_LIMITS

    def may_use(self, model: str) -> bool:
        return _matches(self.models, model)

    def state(self, now_unix_s: float) -> str:
        """Return `live`, `ending` (it was revoked, and is live for a while), `expired` or
        `revoked`."""
        if self.is_live(now_unix_s):
            return "live" if self.revoked_unix_s is None else "ending"
        return "expired" if self.revoked_unix_s is None else "revoked"

    def is_live(self, now_unix_s: float) -> bool:
        if self.revoked_unix_s is not None and now_unix_s >= self.revoked_unix_s:
            return False
        return self.expires_unix_s is None or now_unix_s < self.expires_unix_s


class NewKey(NamedTuple):
    """A key just made: `text` is shown once and kept nowhere."""

    text: str
    record: KeyRecord


class KeyFileError(Exception):
    """The key file cannot be used; the message says why and what to do."""


def make_key(
    name: str = "",
    models: tuple[str, ...] = ("*",),
    expires_unix_s: float | None = None,
    **rights: Any,
) -> NewKey:
    """A new random key, with what else its `KeyRecord` is to say."""
    key_id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(43))
    body = f"ew_{key_id}_{secret}"
    record = KeyRecord(
        id=key_id,
        sha256=_digest(secret),
        name=name,
        models=models,
        created_unix_s=time.time(),
        expires_unix_s=expires_unix_s,
        **rights,
    )
    return NewKey(f"{body}_{_checksum(body)}", record)


def read_keys(path: Path) -> dict[str, KeyRecord]:
    """The records of a key file by key id; none if there is no file yet.

    Raises `KeyFileError` if it cannot be read, or if others may read it, or if it is damaged.
    """
    records = read_private(path, list[KeyRecord])
    return {record.id: record for record in records or ()}


def read_private(path: Path, form: type[Form]) -> Form | None:
    """Return what a file of ours about keys says; None if there is none yet. Raises `KeyFileError`
    as above."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    if status.st_uid != os.getuid():
        raise KeyFileError(f"{path} belongs to another user ({status.st_uid})")
    if status.st_mode & 0o077:
        raise KeyFileError(f"{path} can be read by others; run `chmod 600 {path}`")
    try:
        return msgspec.json.decode(text, type=form)
    except UNREADABLE as error:
        raise KeyFileError(f"{path} is damaged: {error}") from None


def find_anonymous(records: dict[str, KeyRecord], now_unix_s: float) -> KeyRecord | None:
    """The live record for requests without a key, if one is declared so."""
    declared = (record for record in records.values() if record.anonymous)
    return next((record for record in declared if record.is_live(now_unix_s)), None)


def is_well_formed(text: str) -> bool:
    """Whether a text can be a key at all: it has the form, and its checksum is right."""
    match = _FORM.fullmatch(text)
    return match is not None and _checksum(text[: match.start(3) - 1]) == match[3]


def find_key(records: dict[str, KeyRecord], text: str, now_unix_s: float) -> KeyRecord | None:
    """The live record of a presented key, or None; the secret is compared in constant time."""
    if not is_well_formed(text):
        return None
    _, key_id, secret, _ = text.split("_")
    record = records.get(key_id)
    wanted = record.sha256 if record else _digest("")
    same = hmac.compare_digest(wanted, _digest(secret))
    return record if record and same and record.is_live(now_unix_s) else None


@lru_cache(maxsize=4096)
def _matches(patterns: tuple[str, ...], model: str) -> bool:
    return any(fnmatch.fnmatchcase(model, pattern) for pattern in patterns)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
