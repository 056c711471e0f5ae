"""Idempotency keys, and the request that each was first used for."""

from __future__ import annotations

from contract.bus.client import RedisClient


class KnownRequests:
    """What each idempotency key was first used for, whichever model that asked for: the jobs of
    two models may lie on two servers of a cluster, and no script sees both."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db

    async def claim(self, name: str, digest: str, keep_ms: int) -> bool:
        """Whether a key is new, or was used for this very request. Safe to repeat."""
        key = f"ew:request:{name}"
        first = await self._db.set(key, digest, nx=True, get=True, px=keep_ms)
        return first is None or first.decode() == digest
