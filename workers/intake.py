"""Jobs in: claims them while there is room, begins an attempt at each, and hands it to the
engine; jobs of lost workers are continued, restarted or ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.bus.client import connect_reader
from contract.bus.queue import Attempt, Claim, JobQueue, Refused
from contract.bus.replies import scan_letters
from contract.messages import ErrorCode, Job
from workers.continuation import Published, can_continue, read_published
from workers.engine import Engine, JobRejected
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_CLAIM_AT_ONCE: Final = 64
_CLAIM_BLOCK_MS: Final = 1_000
_RECONNECT_S: Final = 0.25
_ALL: Final = 100_000

_WHY_REFUSED: Final = {
    "expired": (ErrorCode.EXPIRED, "the job's time was up before a worker was free", True),
    "poison": (ErrorCode.POISON, "this request broke every worker that tried it", False),
}
T = TypeVar("T")


class Intake:
    """What lies between the queue and the engine of one worker with `slots` places."""

    def __init__(
        self, queue: JobQueue, engine: Engine, outbox: Outbox, worker: str, redis_url: str
    ) -> None:
        self.slots = 0
        self.taken_over_total = 0
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._worker = worker
        self._redis_url = redis_url
        self._beginning: set[str] = set()
        #: Deliveries may have been lost on the way: after each reconnect, and at the start.
        self._missed = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def claim_until(self, stopping: asyncio.Event) -> None:
        """Claim and begin jobs until told to stop. Never cancel it: its reader's command may
        have been delivered jobs already."""
        reader = connect_reader(self._redis_url)
        while not stopping.is_set():
            room = min(self._room(), _CLAIM_AT_ONCE)
            if room <= 0:
                await self._freed_or(stopping)
                continue
            try:
                await self._begin(await self._next_claims(reader, room))
            except RedisError as error:
                log.warning("claiming again in %s s: %s", _RECONNECT_S, error)
                self._missed = True
                await asyncio.sleep(_RECONNECT_S)
        await reader.aclose()

    async def take_over(self) -> None:
        """Begin jobs of workers whose lease has ended. Raises `RedisError`."""
        room = self._room()
        if room <= 0:
            return
        try:
            await self._begin(await self._queue.take_over(self._worker, room))
        except RedisError:
            self._missed = True
            raise

    async def close(self) -> None:
        """Stop what is still being begun."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _room(self) -> int:
        return self.slots - len(self._outbox) - len(self._beginning)

    async def _freed_or(self, stopping: asyncio.Event) -> None:
        self._outbox.freed.clear()
        waits = [asyncio.create_task(event.wait()) for event in (self._outbox.freed, stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _next_claims(self, reader: Redis, room: int) -> list[Claim]:
        if self._missed:
            claims = await self._queue.claimed_before(reader, self._worker, _ALL)
            self._missed = False
            known = {attempt.entry for attempt in self._outbox.attempts()}
            return [claim for claim in claims if claim.entry not in known]
        return await self._queue.claim(reader, self._worker, room, _CLAIM_BLOCK_MS)

    async def _begin(self, claims: Sequence[Claim]) -> None:
        claims = [claim for claim in claims if claim.job_id not in self._beginning]
        if not claims:
            return
        ids = {claim.job_id for claim in claims}
        self._beginning |= ids
        try:
            for begun in await self._queue.begin(self._worker, claims):
                await self._accept(begun)
        finally:
            self._beginning -= ids

    async def _accept(self, begun: Attempt | Refused) -> None:
        if isinstance(begun, Refused):
            self._outbox.open(begun.attempt, owned=False)
            self._spawn(self._refuse(begun))
        elif begun.number == 1:
            self._outbox.open(begun)
            await self._submit(begun.job)
        else:
            self.taken_over_total += 1
            self._outbox.open(begun)
            self._spawn(self._go_on(begun))

    async def _submit(self, job: Job) -> None:
        try:
            await self._engine.submit(job)
        except JobRejected as error:
            self._outbox.failed(job.id, error.code, str(error))

    async def _refuse(self, refused: Refused) -> None:
        code, message, retryable = _WHY_REFUSED[refused.reason]
        await _persist(lambda: self._read_published(refused.attempt))
        self._outbox.failed(refused.attempt.job.id, code, message, retryable=retryable)

    async def _go_on(self, attempt: Attempt) -> None:
        """Continue, restart or end a job that an earlier attempt left open."""
        job = attempt.job
        published = await _persist(lambda: self._read_published(attempt))
        log.info("job %s: attempt %d after %d events", job.id, attempt.number, published.next_seq)
        if published.ended:
            self._outbox.settle(job.id, "done")
        elif published.next_seq == 0:
            await self._submit(job)
        elif self._engine.continues and can_continue(job):
            emitted, sent = published.tokens, published.text
            await self._submit(msgspec.structs.replace(job, emitted=emitted, sent=sent))
        elif job.sampling.n == 1 and job.sampling.logprobs is None:
            self._outbox.suppress(job.id, published.text)
            await self._submit(job)
        else:
            message = "the answer's worker was lost, and this kind of answer cannot be continued"
            self._outbox.failed(job.id, ErrorCode.ENGINE_LOST, message, retryable=True)

    async def _read_published(self, attempt: Attempt) -> Published:
        """What the client was sent before this attempt's fence, which goes out first."""
        await self._outbox.flush()
        scan = scan_letters(self._queue.db, attempt.reply, attempt.first, attempt.job.id)
        published = read_published([letter async for _, letter in scan], attempt.number)
        self._outbox.resume(attempt.job.id, published)
        return published

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outbox.engine_died(error)


async def _persist(read: Callable[[], Awaitable[T]]) -> T:
    """Try until Redis answers."""
    while True:
        try:
            return await read()
        except RedisError as error:
            log.warning("reading again in %s s: %s", _RECONNECT_S, error)
        await asyncio.sleep(_RECONNECT_S)
