"""The use of jobs that run, as their workers say: it counts if a worker is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from contract.bus.client import RedisClient
from contract.usage import MODELS_KEY, JobUse

#: A job that nobody has begun again by then will not be.
_KEPT_S: Final = 86_400


class UseProgress:
    """Of the jobs of one model (`scripts/usage.lua` reads it)."""

    def __init__(self, db: RedisClient, model: str) -> None:
        self._db = db
        self._model = model

    def key(self, worker: str) -> str:
        return f"ew:{{{self._model}}}:progress:{worker}"

    async def open(self) -> None:
        """Have the model looked at whenever usage is. Raises `RedisError`."""
        await self._db.sadd(MODELS_KEY, self._model)

    async def note(self, worker: str, uses: Mapping[str, JobUse], ended: Iterable[str]) -> None:
        """Note what each job that a worker runs has used, and forget those that have ended.
        Raises `RedisError`."""
        pipe = self._db.pipeline(transaction=False)
        if uses:
            words = {job_id: use.words() for job_id, use in uses.items()}
            pipe.hset(self.key(worker), mapping=words)
            pipe.expire(self.key(worker), _KEPT_S)
            pipe.sadd(MODELS_KEY, self._model)
        if gone := list(ended):
            pipe.hdel(self.key(worker), *gone)
        await pipe.execute()
