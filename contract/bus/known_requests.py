"""Idempotency keys, and the request that each was first used for."""

from __future__ import annotations

from contract.bus.client import RedisClient
from contract.bus.queue import JobQueue
from contract.bus.tickets import Ticket, WasCancelled, known_ticket


class KnownRequests:
    """The first use of each idempotency key, whichever model that asked for: the jobs of
    two models may lie on two servers of a cluster, and no script sees both."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db

    async def claim(self, name: str, digest: str, keep_ms: int) -> bool:
        """Whether a key is new, or was used for this very request. Safe to repeat."""
        first = await self._db.set(_key(name), digest, nx=True, get=True, px=keep_ms)
        return first is None or first.decode() == digest

    async def first_choice(self, name: str, model: str, keep_ms: int) -> str:
        """Return the model that a request went to when it was first made; this one, if that is
        now. Safe to repeat."""
        first = await self._db.set(choice_key(name), model, nx=True, get=True, px=keep_ms)
        return first.decode() if first is not None else model

    async def find(self, name: str, digest: str, queue: JobQueue, job_id: str) -> Ticket | None:
        """Where the answer to a request can be read that was made before, in one round trip, if
        the job is there and has not ended without an answer. Raises `Conflict`."""
        pipe = self._db.pipeline(transaction=False)
        pipe.get(_key(name))
        pipe.hmget(queue.job_key(job_id), "digest", "reply", "first", "state", "cancelled")
        first, job = await pipe.execute()
        if first is None or first.decode() != digest or job[3] is None or job[4]:
            return None
        try:
            ticket = known_ticket(job_id, digest, job[:4])
        except WasCancelled:
            return None
        return None if ticket.may_retry else ticket


def choice_key(name: str) -> str:
    """Return the key of the model that a request went to."""
    return f"{_key(name)}:model"


def _key(name: str) -> str:
    return f"ew:request:{name}"
