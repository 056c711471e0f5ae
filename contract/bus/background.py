"""Background jobs: who asked for each, who keeps it, and the answers of those that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from contract.bus.background_job import (
    FIELDS,
    SHORT_FIELDS,
    AboutJob,
    BackgroundJob,
    JobOutcome,
    JobState,
    Webhook,
    read_record,
)
from contract.bus.client import LuaScript, RedisClient
from contract.messages import Job
from contract.wire import encode_job

_PREFIX: Final = "ew:{_jobs}"
#: The bytes of a record and its place in the indexes beside its long fields.
_OVERHEAD_BYTES: Final = 768
_FORGET_AT_ONCE: Final = 256

_create = LuaScript("background_create")
_end = LuaScript("background_end", even_if_full=True)
_forget = LuaScript("background_forget")
_adopt = LuaScript("background_adopt")
_due = LuaScript("webhooks_due")


class BackgroundFull(Exception):
    """There is no room for the record of another job: those that are open take `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"open background jobs take {size / 1_048_576:.1f} MiB")
        self.size = size


class BackgroundJobs:
    """The records of all background jobs. They take `max_bytes` at most; the oldest that have ended
    go first."""

    def __init__(self, db: RedisClient, max_bytes: int) -> None:
        self._db = db
        self._max_bytes = max_bytes
        self._open, self._kept, self._bytes, self._hooks = (
            f"{_PREFIX}:{part}" for part in ("open", "kept", "bytes", "webhooks")
        )

    async def create(
        self,
        job: Job,
        about: AboutJob,
        *,
        job_id: str,
        keeper: str,
        digest: str,
        webhook: Webhook | None = None,
    ) -> bool:
        """Note a job, once. True if this very job was there already (safe to repeat).

        Raises `KeyError` if its id is another job's, `BackgroundFull`, `RedisError`.
        """
        encoded, told = encode_job(job), msgspec.msgpack.encode(about)
        hook = msgspec.msgpack.encode(webhook) if webhook else b""
        size = len(encoded) + len(told) + len(hook) + _OVERHEAD_BYTES
        keys = [self._record(job_id), self._of(job.key_id), self._open, self._bytes]
        args = [job_id, digest, size, self._max_bytes, keeper, job.key_id, encoded, told]
        for may_make_room in (True, False):
            answer = await _create(self._db, keys, [*args, job.id, hook])
            match answer:
                case [b"created"]:
                    return False
                case [b"known", first]:
                    if first.decode() != digest:
                        raise KeyError(job_id)
                    return True
            if not (may_make_room and await self._forget_beyond(self._max_bytes - size)):
                break
        raise BackgroundFull(answer[1])

    async def now_ms(self) -> int:
        """Return the Unix time by Redis' clock, in ms."""
        seconds, micros = await self._db.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def find(self, job_id: str, *, short: bool = False) -> BackgroundJob | None:
        """Return a job, without what was asked and answered if `short`; None if there is none."""
        return (await self._read([job_id], SHORT_FIELDS if short else FIELDS))[0]

    async def of_key(self, key_id: str, count: int, after: str = "") -> list[BackgroundJob]:
        """Return a key's newest jobs, `count` at most, older than the job `after`; in short."""
        start = 0
        if after:
            rank = await self._db.zrevrank(self._of(key_id), after)
            if rank is None:
                return []
            start = rank + 1
        ids = await self._db.zrevrange(self._of(key_id), start, start + count - 1)
        found = await self._read([each.decode() for each in ids], SHORT_FIELDS)
        return [each for each in found if each is not None]

    async def queued_as(self, job_id: str, queue_id: str) -> None:
        """Note the id that a job has in its model's queue now."""
        await self._db.hset(self._record(job_id), "queued_as", queue_id)

    async def end(
        self,
        job_id: str,
        state: JobState,
        outcome: JobOutcome,
        *,
        keep_s: float,
        keeper: str = "",
        answer: bytes = b"",
    ) -> bool:
        """End an open job and keep its answer for a while. False if it had ended, or has another
        keeper. Without a `keeper`, any. Safe to repeat."""
        told = msgspec.msgpack.encode(outcome)
        keys = [self._record(job_id), self._open, self._kept, self._bytes, self._hooks]
        size = len(told) + len(answer) + _OVERHEAD_BYTES
        args = [job_id, keeper, state.value, told, answer, size, int(keep_s * 1000)]
        ended = bool(await _end(self._db, keys, args))
        await self._forget_beyond(self._max_bytes)
        return ended

    async def forget(self, job_id: str) -> bool:
        """Forget a job that has ended. False if it has not."""
        return bool(await self._drop(job_id, 0))

    async def tidy(self) -> None:
        """Forget those whose time is up."""
        await self._forget_beyond(self._max_bytes)

    async def adopt(self, keeper: str, alive: Iterable[str], count: int) -> list[str]:
        """Become the keeper of open jobs whose own is none of those `alive`, `count` at most."""
        names = {keeper, *alive}
        answer = await _adopt(self._db, [self._open], [self._record(""), keeper, count, *names])
        return [job_id.decode() for job_id in answer]

    async def still_open(self, job_ids: Sequence[str], keeper: str) -> set[str]:
        """Return which of the jobs are open, and kept by `keeper`."""
        if not job_ids:
            return set()
        keepers = await self._db.hmget(self._open, job_ids)
        return {
            job_id
            for job_id, found in zip(job_ids, keepers, strict=True)
            if found is not None and found.decode() == keeper
        }

    async def release(self, keeper: str) -> None:
        """Leave the jobs of a keeper to the others, which take them at their next look."""
        found = await self._db.hgetall(self._open)
        own = [job_id for job_id, name in found.items() if name.decode() == keeper]
        if own:
            await self._db.hset(self._open, mapping=dict.fromkeys(own, b""))

    async def webhooks_due(self, count: int, again_after_ms: int) -> list[BackgroundJob]:
        """Return jobs whose end is to be told now; other callers do not get them for a while."""
        ids = await _due(self._db, [self._hooks], [count, again_after_ms])
        found = await self._read([each.decode() for each in ids], FIELDS)
        return [each for each in found if each is not None]

    async def webhook_tried(self, job: BackgroundJob, word: str, again_in_s: float | None) -> None:
        """Note what came of telling an end, and when it is to be tried again, if ever."""
        pipe = self._db.pipeline(transaction=True)
        if again_in_s is None:
            pipe.zrem(self._hooks, job.id)
        else:
            due = await self.now_ms() + int(again_in_s * 1000)
            pipe.zadd(self._hooks, {job.id: due}, xx=True)
        await pipe.execute()
        # A record that was forgotten meanwhile must not come back as a part of itself.
        if await self._db.hexists(self._record(job.id), "state"):
            told: dict[str, Any] = {"webhook_tries": job.webhook_tries + 1, "webhook_word": word}
            await self._db.hset(self._record(job.id), mapping=told)

    def _record(self, job_id: str) -> str:
        return f"{_PREFIX}:job:{job_id}"

    def _of(self, key_id: str) -> str:
        return f"{_PREFIX}:of:{key_id}"

    async def _forget_beyond(self, bytes_left: int) -> int:
        return await self._drop("", max(0, bytes_left))

    async def _drop(self, job_id: str, bytes_left: int) -> int:
        keys = [self._kept, self._bytes, self._hooks]
        args = [self._record(""), self._of(""), job_id, bytes_left, _FORGET_AT_ONCE]
        return int(await _forget(self._db, keys, args))

    async def _read(
        self, job_ids: Sequence[str], fields: Sequence[str]
    ) -> list[BackgroundJob | None]:
        pipe = self._db.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hmget(self._record(job_id), fields)
        rows = await pipe.execute()
        return [
            read_record(job_id, dict(zip(fields, row, strict=True)))
            for job_id, row in zip(job_ids, rows, strict=True)
        ]
