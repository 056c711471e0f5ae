"""Jobs in: claims them while there is room, begins an attempt at each, and has it submitted, or
gone on with where a lost worker left it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.bus.claims import Attempt, BeginRefused, Claim
from contract.bus.client import connect_reader
from contract.bus.queue import JobQueue
from contract.process.tasks import cancel_and_wait, first_of
from workers.claims.audience import Audience
from workers.claims.inheritance import Inheritance, attempt_of
from workers.claims.places import Places
from workers.claims.submissions import Submissions
from workers.engine import Engine
from workers.outbox import Outbox
from workers.watching.suspects import Suspects

log = logging.getLogger(__name__)
_CLAIM_AT_ONCE: Final = 64
_CLAIM_BLOCK_MS: Final = 1_000
#: Without room: whether another job should have a place. Batch jobs make room within a second.
_LOOK_AGAIN_S: Final = 0.5
_TAKE_OVER_EVERY_S: Final = 2.0
_RECONNECT_S: Final = 0.25


class JobConsumer:
    """The way from the queue to the engine of one worker with `slots` places."""

    def __init__(
        self,
        queue: JobQueue,
        engine: Engine,
        outbox: Outbox,
        audience: Audience,
        places: Places,
        worker: str,
        redis_url: str,
    ) -> None:
        self.slots = 0
        self.submissions = Submissions(queue, engine, outbox, self._spawn)
        self.inheritance = Inheritance(queue, engine, outbox, self.submissions)
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._audience = audience
        self._places = places
        self._worker = worker
        self._redis_url = redis_url
        #: Jobs whose attempts Redis is just asked to begin, and those of them cancelled meanwhile.
        self._beginning: set[str] = set()
        self._unwanted: set[str] = set()
        #: Deliveries may have been lost on the way: after each reconnect, and at the start.
        self._missed = True
        self._take_over_at = 0.0
        self._suspects = Suspects(queue, outbox, worker)
        #: Claims of lost workers that wait until no suspect does.
        self._waiting: deque[Claim] = deque()
        self._forgotten: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def claim_until(self, stopping: asyncio.Event) -> None:
        """Claim and begin jobs until told to stop; all that were begun are with the engine then.
        Never cancel it: its reader's command may have been delivered jobs already."""
        interrupting = asyncio.create_task(self._interrupt_when(stopping))
        async with aclosing(connect_reader(self._redis_url)) as reader:
            while not stopping.is_set():
                try:
                    await self._claim(reader, stopping)
                except RedisError as error:
                    log.warning("claiming again in %s s: %s", _RECONNECT_S, error)
                    self.look_again()
                    await asyncio.sleep(_RECONNECT_S)
        await cancel_and_wait([interrupting])
        await self.submissions.wait_until_idle()

    def look_again(self) -> None:
        """Jobs may be ours that we do not know of: look before claiming others."""
        self._missed = True

    async def look_for_forgotten(self) -> None:
        """Redis may say that we hold what we have ended: a replica that took over did not know.
        What is found so in two looks is begun again, and gets the end that was lost."""
        if self._suspects or self._waiting or self._beginning:
            return
        forgotten = await self._queue.held(self._worker) - self._outbox.entries()
        if forgotten & self._forgotten:
            self.look_again()
        self._forgotten = forgotten

    def look_whose_turn_it_is(self) -> None:
        """A key has begun to wait: another job may have to make room."""
        self._places.asked.set()

    async def cancel(self, job_id: str) -> None:
        """Drop a job without a word, if it is here."""
        if job_id in self._beginning:
            self._unwanted.add(job_id)
        elif job_id in self._outbox:
            self._outbox.settle(job_id, "cancelled")
            await self._engine.cancel(job_id)

    async def close(self) -> None:
        """Stop what is still being begun."""
        await cancel_and_wait(self._tasks)

    async def _interrupt_when(self, stopping: asyncio.Event) -> None:
        """Have the claim that waits for jobs return at once, instead of within a second."""
        await stopping.wait()
        try:
            await self._queue.job_wait.interrupt(self._worker)
        except RedisError as error:
            log.debug("the claim ends by itself: %s", error)

    async def _claim(self, reader: Redis, stopping: asyncio.Event) -> None:
        """Wait for room or for jobs, at most about a second for the latter."""
        room = min(self.slots - len(self._outbox), _CLAIM_AT_ONCE)
        if room <= 0:
            await self._wait_for_room(stopping)
        elif self._suspects:
            await self._suspects.try_next(self._begin, stopping)
        elif self._waiting:
            count = min(room, len(self._waiting))
            await self._begin([self._waiting.popleft() for _ in range(count)])
        elif self._missed:
            await self._recover(await self._missed_claims(reader, room))
        elif time.monotonic() >= self._take_over_at:
            jitter = random.uniform(0.75, 1.25)  # noqa: S311
            self._take_over_at = time.monotonic() + jitter * _TAKE_OVER_EVERY_S
            await self._recover(await self._queue.take_over(self._worker, room))
        else:
            await self._begin(await self._queue.claim(reader, self._worker, room, _CLAIM_BLOCK_MS))

    async def _wait_for_room(self, stopping: asyncio.Event) -> None:
        """Until an answer ends, or a key begins to wait; for a second at most."""
        self._outbox.freed.clear()
        await self._places.make_room()
        if not self._outbox.freed.is_set():
            waits = (self._outbox.freed.wait(), self._places.asked.wait(), stopping.wait())
            await first_of(*waits, timeout_s=_LOOK_AGAIN_S)

    async def _missed_claims(self, reader: Redis, room: int) -> list[Claim]:
        self._missed = False
        held = self._outbox.entries()
        claims = await self._queue.claimed_before(reader, self._worker, room + len(held))
        if len(claims) == room + len(held):
            self.look_again()
        held = self._outbox.entries()
        return [claim for claim in claims if claim.entry not in held]

    async def _recover(self, claims: Sequence[Claim]) -> None:
        """Begin jobs that were claimed before, by this worker or another."""
        for claim in claims:
            # It was taken from us, and has come back: its attempt here has been fenced off.
            if claim.job_id in self._outbox:
                self._outbox.withdraw(claim.job_id)
                await self._engine.cancel(claim.job_id)
        self._waiting.extend(await self._suspects.take(claims))

    async def _begin(self, claims: Sequence[Claim], *, alone: bool = False) -> list[Attempt]:
        """Begin attempts, and open an answer for each. Returns those that are to be run."""
        if not claims:
            return []
        self._beginning = {claim.job_id for claim in claims}
        claimed_at = time.monotonic()
        try:
            begun = await self._queue.begin(self._worker, claims, alone=alone)
        finally:
            unwanted, self._unwanted, self._beginning = self._unwanted, set(), set()
        for each in begun:
            attempt = attempt_of(each)
            self._outbox.open(attempt, claimed_at)
            if self._audience.is_gone(attempt):
                unwanted.add(attempt.job.id)
        for job_id in unwanted:
            self._outbox.settle(job_id, "cancelled")
        self._hand_over(begun)
        return [each for each in begun if isinstance(each, Attempt)]

    def _hand_over(self, begun: Sequence[Attempt | BeginRefused]) -> None:
        later = [each for each in begun if isinstance(each, BeginRefused) or each.ordinal > 1]
        if later:
            self._spawn(self.inheritance.go_on_with(later))
        first = [each for each in begun if isinstance(each, Attempt) and each.ordinal == 1]
        self.submissions.add(first)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outbox.engine_died(error)
