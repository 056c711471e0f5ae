"""A host that follows the keys of another one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from contract.bus.client import RedisClient
from contract.bus.records.key_board import KeyBoard
from contract.key_sharing.copies import read_copy
from contract.key_sharing.shared_keys import BadSeal, SealedKeys, SharedKeys, SharedSecret
from contract.keys import KeyFileError
from contract.process.private_files import replace_privately


class KeyFollower:
    """Keeps the copy of `host`. Any process of it may: the file only ever gets newer."""

    def __init__(self, db: RedisClient, secret: SharedSecret, path: Path, host: str) -> None:
        self._board = KeyBoard(db)
        self._secret = secret
        self._path = path
        self._host = host

    async def follow(self) -> SharedKeys | None:
        """Bring the copy up to date, and return it; None if no keys were ever shared. Raises
        `BadSeal`, `KeyFileError`, `RedisError`: the copy stays as it was then."""
        sealed = await self._board.read()
        # With thousands of keys, and a slow disk, it takes long.
        return await asyncio.to_thread(self._take, sealed)

    def _take(self, sealed: SealedKeys | None) -> SharedKeys | None:
        known = self._known()
        if sealed is None:
            return known
        shared = self._secret.open(sealed)
        if known is not None and shared.revision < known.revision:
            raise BadSeal(
                "the keys in Redis are older than those that were there before; `./ew keys share` "
                "on the source publishes its own again"
            )
        if shared.host == self._host:
            # It is the source by now, and this process is yet to be replaced.
            self._path.unlink(missing_ok=True)
        elif shared != known:
            self._write(shared)
        return shared

    def _write(self, shared: SharedKeys) -> None:
        try:
            replace_privately(self._path, msgspec.json.encode(shared))
        except OSError as error:
            raise KeyFileError(f"{self._path}: {error.strerror}") from None

    def _known(self) -> SharedKeys | None:
        try:
            return read_copy(self._path)
        except KeyFileError:
            return None
