"""Jobs that earlier attempts left open: continued, restarted or ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec
from redis.exceptions import RedisError

from contract.bus.claims import Attempt, BeginRefused
from contract.bus.queue import JobQueue
from contract.bus.tickets import state_after
from contract.messages import ErrorCode
from workers.answers.continuation import Published, can_continue, can_hand_over, published_before
from workers.claims.submissions import Submissions
from workers.engine import Engine
from workers.outbox import Outbox

log = logging.getLogger(__name__)
_READ_AGAIN_S: Final = 0.25
_WHY_REFUSED: Final = {
    "expired": (ErrorCode.EXPIRED, "the job's time was up before a worker was free", True),
    "poison": (ErrorCode.POISON, "this request broke every worker that tried it", False),
}
T = TypeVar("T")


class Inheritance:
    """Goes on with what lost workers left, in answers of an outbox that are open."""

    def __init__(
        self, queue: JobQueue, engine: Engine, outbox: Outbox, submissions: Submissions
    ) -> None:
        self.taken_over_total = 0
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._submissions = submissions

    async def go_on_with(self, begun: Sequence[Attempt | BeginRefused]) -> None:
        """Continue, restart or end them, as far as their answers are still open then."""
        attempts = [attempt_of(each) for each in begun]
        # The fences go out first.
        await _persist(self._outbox.flush)
        published = await _persist(lambda: published_before(self._queue.db, attempts))
        for each, attempt in zip(begun, attempts, strict=True):
            said = published[attempt.job.id]
            if not self._outbox.is_open(attempt):
                continue
            self._outbox.resume(attempt.job.id, said)
            if said.end is not None:
                self._outbox.settle(attempt.job.id, state_after(said.end))
            elif isinstance(each, BeginRefused):
                code, message, retryable = _WHY_REFUSED[each.reason]
                self._outbox.failed(attempt.job.id, code, message, retryable=retryable)
            else:
                await self._go_on(attempt, said)

    async def _go_on(self, attempt: Attempt, published: Published) -> None:
        job = attempt.job
        self.taken_over_total += 1
        log.info("job %s: attempt %d after %d events", job.id, attempt.ordinal, published.next_seq)
        if published.is_torn:
            message = "the answer's worker was lost, and its beginning is not kept any more"
            self._outbox.failed(job.id, ErrorCode.ENGINE_LOST, message, retryable=True)
        elif published.next_seq == 0:
            await self._submissions.submit(job)
        elif self._engine.continues and can_continue(job):
            emitted, sent = published.tokens, published.text
            await self._submissions.submit(msgspec.structs.replace(job, emitted=emitted, sent=sent))
        elif can_hand_over(job):
            self._outbox.suppress(job.id, published.text)
            await self._submissions.submit(job)
        else:
            message = "the answer's worker was lost, and this kind of answer cannot be continued"
            self._outbox.failed(job.id, ErrorCode.ENGINE_LOST, message, retryable=True)


def attempt_of(begun: Attempt | BeginRefused) -> Attempt:
    """Return the attempt, whether it may be made or not."""
    return begun.attempt if isinstance(begun, BeginRefused) else begun


async def _persist(read: Callable[[], Awaitable[T]]) -> T:
    """Try until Redis answers."""
    while True:
        try:
            return await read()
        except RedisError as error:
            log.warning("reading again in %s s: %s", _READ_AGAIN_S, error)
        await asyncio.sleep(_READ_AGAIN_S)
