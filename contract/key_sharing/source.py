"""The host whose key file all hosts have."""

from __future__ import annotations

import asyncio
import fcntl
import secrets
import time
from pathlib import Path

import msgspec

from contract.bus.client import RedisClient
from contract.bus.records.key_board import KeyBoard
from contract.key_sharing.shared_keys import BadSeal, SealedKeys, SharedKeys, SharedSecret
from contract.keys import KeyFileError, KeyRecord, read_keys, read_private
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
        before = await self._board.read()
        # With thousands of keys, and a slow disk, it takes long.
        new = await asyncio.to_thread(self._succeeding, before)
        signature = before.signature if before else b""
        if new is None or not await self._board.replace(signature, new):
            return signature
        return new.signature

    async def take_over(self) -> SharedKeys | None:
        """Publish the file in place of whatever is shared; return that, if it can be read. Raises
        `KeyFileError`, `RedisError`."""
        before = await self._board.read()
        try:
            published = None if before is None else self._secret.open(before)
        except BadSeal:
            published = None
        signature = before.signature if before else b""
        await self._board.replace(signature, self._sealed(published))
        return published

    def _succeeding(self, before: SealedKeys | None) -> SealedKeys | None:
        """Return the file as it is to be published; None if it is."""
        if before is None:
            return self._sealed(None)
        published, own = self._secret.open(before), self._publications()
        if not own.have(published):
            raise OtherSource(published)
        is_news = (published.records, published.host) != (self._records(), host_name())
        return self._sealed(published) if is_news else None

    def _sealed(self, published: SharedKeys | None) -> SealedKeys:
        own = self._begin_publication(published.revision if published else 0)
        records, now = self._records(), time.time()
        return self._secret.seal(SharedKeys(own.revision, host_name(), own.publisher, now, records))

    def _records(self) -> tuple[KeyRecord, ...]:
        return tuple(read_keys(self._key_file).values())

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
