"""The host whose key file all hosts have."""

from __future__ import annotations

import fcntl
import secrets
import time
from pathlib import Path

import msgspec

from contract.bus.client import RedisClient
from contract.bus.records.key_board import KeyBoard
from contract.key_sharing.shared_keys import BadSeal, SharedKeys, SharedSecret
from contract.keys import KeyFileError, read_keys, read_private
from contract.logs.rotation import open_privately
from contract.paths import published_keys_path
from contract.process.host_name import host_name
from contract.process.private_files import replace_privately


class OtherSource(Exception):
    """Another host, or another installation, has published its keys after this one, or first."""

    def __init__(self, others: SharedKeys) -> None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(others.published_unix_s))
        super().__init__(
            f"the keys of this host are not shared: `{others.host}` shared its own at {when}; if "
            "this host is to be the source, `./ew keys share` replaces them, else name the other "
            "one in `keys.source`"
        )


class _Publications(msgspec.Struct, frozen=True):
    """The publications of this host so far: its name for them, and the last of them. Written before
    it is in Redis, so that none of our own is taken for another's."""

    publisher: str = ""
    revision: int = 0

    def have(self, keys: SharedKeys) -> bool:
        return keys.publisher == self.publisher and keys.revision <= self.revision


class KeySource:
    """Publishes a key file. Any process of this host may, at any time: only what differs from what
    is published is, and one after another."""

    def __init__(self, db: RedisClient, secret: SharedSecret, key_file: Path) -> None:
        self._board = KeyBoard(db)
        self._secret = secret
        self._key_file = key_file
        self._publications_file = key_file.with_name(published_keys_path().name)

    async def publish(self) -> bytes:
        """Have the file published, and return the signature of what is. Raises `OtherSource`,
        `BadSeal`, `KeyFileError`, `RedisError`."""
        # This before the files, so that an older file never replaces what a newer one said.
        sealed = await self._board.read()
        published = None if sealed is None else self._secret.open(sealed)
        before = b"" if sealed is None else sealed.signature
        own = self._publications()
        if published is not None and not own.have(published):
            raise OtherSource(published)
        return await self._replace(before, published, own)

    async def take_over(self) -> SharedKeys | None:
        """Publish the file in place of whatever is shared; return that, if it can be read. Raises
        as `publish` does, but for the first two."""
        sealed = await self._board.read()
        try:
            published = None if sealed is None else self._secret.open(sealed)
        except BadSeal:
            published = None
        before = b"" if sealed is None else sealed.signature
        await self._replace(before, published, self._publications())
        return published

    async def _replace(
        self, before: bytes, published: SharedKeys | None, own: _Publications
    ) -> bytes:
        records = tuple(read_keys(self._key_file).values())
        shared = published if published and own.have(published) else None
        if shared and (shared.records, shared.host) == (records, host_name()):
            return before
        own = self._begin_publication(published.revision if published else 0)
        keys = SharedKeys(own.revision, host_name(), own.publisher, time.time(), records)
        sealed = self._secret.seal(keys)
        return sealed.signature if await self._board.replace(before, sealed) else before

    def _publications(self) -> _Publications:
        return read_private(self._publications_file, _Publications) or _Publications()

    def _begin_publication(self, last_revision: int) -> _Publications:
        path = self._publications_file
        try:
            with open_privately(path.with_suffix(".mutex")) as mutex:
                fcntl.flock(mutex, fcntl.LOCK_EX)
                own = self._publications()
                last = max(own.revision, last_revision)
                revision = max(last + 1, int(time.time() * 1000))
                own = _Publications(own.publisher or secrets.token_hex(8), revision)
                replace_privately(path, msgspec.json.encode(own))
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None
        return own
