"""The keys of all hosts as they lie in Redis, sealed."""

from __future__ import annotations

from typing import Final

from contract.bus.client import LuaScript, RedisClient
from contract.key_sharing.shared_keys import SealedKeys

_KEY: Final = "ew:keys"
_replace = LuaScript("replace_keys")


class KeyBoard:
    """All methods raise `RedisError`."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db

    async def signature(self) -> bytes:
        """Return the signature of what is there, empty if nothing is. It differs with each
        publication."""
        return await self._db.hget(_KEY, "signature") or b""

    async def read(self) -> SealedKeys | None:
        body, signature = await self._db.hmget(_KEY, "body", "signature")
        return None if body is None else SealedKeys(body, signature or b"")

    async def replace(self, before: bytes, sealed: SealedKeys) -> bool:
        """Publish, if what is there still has the signature `before`. Return whether it had."""
        return bool(await _replace.apart(self._db, [_KEY], [before, *sealed]))
