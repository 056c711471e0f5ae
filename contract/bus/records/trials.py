"""The trials of jobs that may have broken their workers: each has one to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract.bus.claims import Attempt, Claim, Record
from contract.bus.client import LuaScript, RedisClient

_record = LuaScript("record", "apart", "turns", "blame", even_if_full=True)
_end_trial = LuaScript("end_trial", even_if_full=True)


class Trials:
    """Those of one queue (`scripts/blame.lua` weighs what came of them)."""

    def __init__(self, db: RedisClient, queue_key: str) -> None:
        self._db = db
        self._queue_key = queue_key

    async def records(self, claims: Sequence[Claim]) -> dict[str, Record]:
        """By entry, what is held against its job: nothing, if that cannot be read. Raises
        `RedisError`."""
        keys = [[self._queue_key, self._job_key(claim.job_id)] for claim in claims]
        found = await _record.map(self._db, [(each, []) for each in keys])
        return {claim.entry: _read(answer) for claim, answer in zip(claims, found, strict=True)}

    async def end(self, worker: str, attempt: Attempt, *, got_on: bool) -> None:
        """An attempt that was begun alone has company from now on. If it `got_on` before, the
        workers that its job lost do not count any more. Raises `RedisError`."""
        args = [worker, attempt.number, int(got_on)]
        await _end_trial(self._db, [self._job_key(attempt.job.id)], args)

    def _job_key(self, job_id: str) -> str:
        return f"{self._queue_key.removesuffix('queue')}job:{job_id}"


def _read(answer: Sequence[Any]) -> Record:
    if answer[0] == b"failed":
        return Record(0, 0)
    lost, acquitted, in_doubt = answer
    return Record(lost, acquitted, bool(in_doubt))
