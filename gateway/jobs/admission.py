"""Jobs on their way into the queue: what a key may ask for, and what if the queue refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from contract.bus.client import RedisClient
from contract.bus.known_requests import KnownRequests
from contract.bus.queue import KEEP_MS, JobQueue
from contract.bus.tickets import Conflict, Ticket, WasCancelled
from contract.messages import ErrorCode, Job
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext
from gateway.jobs.intake import Intake
from gateway.jobs.media import MediaIntake
from gateway.jobs.models import Models
from gateway.jobs.patient_link import PATIENCE_S, RETRY_S, BackendDown, PatientLink
from gateway.jobs.queue_memory import QueueMemory
from gateway.jobs.refusals import conflict
from gateway.jobs.resumption import Resumption, tries_of
from gateway.jobs.routes.moving import Moving
from gateway.streams.answers import AnswerSink, WholeAnswer
from gateway.streams.cancelling import Canceller
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.replays import Replays
from gateway.streams.reply import Reply
from gateway.streams.sse import NOTHING
from gateway.tracing.tracer import Tracer

#: Fewer than the client has connections: the rest is for what the process itself has to say.
_ASK_AT_ONCE: Final = 12
#: Those that put jobs share a connection, and its round trips.
_PUT_AT_ONCE: Final = 512


class Admission:
    """Puts jobs into their model's queue, each with the reply that waits for its answer."""

    def __init__(
        self,
        db: RedisClient,
        link: Link,
        models: Models,
        dispatcher: Dispatcher,
        replays: Replays,
        canceller: Canceller,
        metrics: Metrics,
        memory: QueueMemory,
        media: MediaIntake,
        moving: Moving,
    ) -> None:
        self._db = db
        self._media = media
        self._link = link
        self._models = models
        self._dispatcher = dispatcher
        self._replays = replays
        self._canceller = canceller
        self._metrics = metrics
        #: Set by whoever opens it; None where traces are off.
        self.tracer: Tracer | None = None
        self._moving = moving
        self._redis = PatientLink(link, _ASK_AT_ONCE)
        small = PatientLink(link, _PUT_AT_ONCE)
        self._intake = Intake(db, small, self._redis, models, dispatcher, canceller, memory)

    async def admit(
        self, job: Job, answer: AnswerSink, context: RequestContext, resumption: Resumption | None
    ) -> Reply:
        """Put a job that was checked; its reply is being answered from now on.

        Raises `ApiError`; the job is then not in the queue, or soon will not be.
        """
        return (await self.admit_all([job], [answer], context, resumption))[0]

    async def admit_all(
        self,
        jobs: Sequence[Job],
        answers: Sequence[AnswerSink],
        context: RequestContext,
        resumption: Resumption | None,
    ) -> list[Reply]:
        """Put the jobs of one request, which are for one model, all or none. Raises `ApiError`."""
        first = await self._first_entry()
        jobs = [await self._media.fetched(job) for job in jobs]
        if resumption is not None and self._models.may_move(jobs[0]):
            jobs = await self._as_at_first(jobs, answers, context, resumption)
        metrics, kept = self._metrics.of(jobs[0].model), resumption is not None
        after = resumption.after if resumption else NOTHING
        patience_s = resumption.patience_s if resumption else 0.0

        def reply_to(each: Job, answer: AnswerSink) -> Reply:
            reply = Reply(
                each.id,
                each.model,
                answer,
                context,
                metrics,
                first,
                resumable=kept,
                after=after,
                patience_s=patience_s,
            )
            reply.may_wait_s = each.turn.within_s
            if self.tracer is not None:
                is_stream = not isinstance(answer, WholeAnswer)
                reply.trace = self.tracer.job(each, context.trace, reply.began, is_stream=is_stream)
            return reply

        replies = [reply_to(job, answer) for job, answer in zip(jobs, answers, strict=True)]
        if resumption is None:
            return await self._admit_new(jobs, replies)
        if after != NOTHING:
            return [await self._resume(jobs[0], lambda job: reply_to(job, answers[0]), resumption)]
        if not patience_s:
            await self._claim_key(jobs[0], resumption)
        makers = [partial(reply_to, answer=answer) for answer in answers]
        return await self._admit_once(jobs, replies, resumption, makers)

    async def _admit_new(self, jobs: Sequence[Job], replies: list[Reply]) -> list[Reply]:
        for reply in replies:
            self._dispatcher.open(reply)
        try:
            tickets = await self._intake.put(jobs, replies, "")
            for reply, ticket in zip(replies, tickets, strict=True):
                reply.position = _good(ticket).waiting
                reply.is_current = True
        except BaseException:
            for reply in replies:
                self._forget(reply)
            raise
        self._moving.watch(jobs, replies)
        return replies

    async def _resume(
        self, job: Job, reply_to: Callable[[Job], Reply], resumption: Resumption
    ) -> Reply:
        """Go on with the answer that a client has a part of."""
        if ticket := await self._find(job, resumption):
            reply = reply_to(job)
            self._replays.follow(reply, ticket)
            return reply
        if not resumption.patience_s:
            await self._claim_key(job, resumption)
        last = await self._last_of(tries_of(job))
        digest = resumption.digest
        (joined,) = await self._join([last], [reply_to(last)], digest, may_retry=False)
        return _present(joined)

    async def _admit_once(
        self,
        jobs: Sequence[Job],
        replies: Sequence[Reply],
        resumption: Resumption,
        makers: Sequence[Callable[[Job], Reply]],
    ) -> list[Reply]:
        """A request that may have been made before: its answer is replayed. What ended without an
        answer is made anew."""
        joined = await self._join(jobs, replies, resumption.digest, may_retry=True)
        try:
            for number, (job, reply_to) in enumerate(zip(jobs, makers, strict=True)):
                if joined[number] is None:
                    joined[number] = await self._retry(job, reply_to, resumption)
        except BaseException:
            self.leave(reply for reply in joined if reply is not None)
            raise
        present = [_present(reply) for reply in joined]
        self._moving.watch(jobs, present, resumption.name(jobs[0].key_id))
        return present

    async def _retry(
        self, job: Job, reply_to: Callable[[Job], Reply], resumption: Resumption
    ) -> Reply:
        """Make a job anew that has ended without an answer, or join the last that was made."""
        tries = tries_of(job)
        for number, each in enumerate(tries[1:], 1):
            reply, digest = reply_to(each), resumption.digest
            (joined,) = await self._join([each], [reply], digest, may_retry=each is not tries[-1])
            if joined is not None:
                await self._remember(tries[:number], resumption.patience_s)
                return joined
        raise AssertionError("the last try is never over")

    def leave(self, replies: Iterable[Reply]) -> None:
        """A request is given up of which these were put."""
        for reply in replies:
            self._dispatcher.leave(reply)

    async def _find(self, job: Job, resumption: Resumption) -> Ticket | None:
        """The usual case of a client that comes back, and cheap: after a gateway's death, very many
        do. None if more has to be looked at."""
        await self._canceller.told(job.id)
        name, queue = resumption.name(job.key_id), JobQueue(self._db, job.model)
        known = KnownRequests(self._db)
        try:
            return await self._redis.ask(lambda: known.find(name, resumption.digest, queue, job.id))
        except Conflict:
            raise conflict() from None

    async def _join(
        self, jobs: Sequence[Job], replies: Sequence[Reply], digest: str, *, may_retry: bool
    ) -> list[Reply | None]:
        """Put jobs, or follow the answers of those that were put before. None for one that has
        ended without an answer, if it `may_retry`."""
        for job, reply in zip(jobs, replies, strict=True):
            await self._canceller.told(job.id)
            if not self._dispatcher.has_job(job.id):
                self._dispatcher.open(reply)
        try:
            tickets = [
                None if may_retry and _is_over(ticket) else _good(ticket)
                for ticket in await self._intake.put(jobs, replies, digest)
            ]
        except BaseException:
            for reply in replies:
                self._forget(reply)
            raise
        return [self._joined(*each) for each in zip(replies, tickets, strict=True)]

    def _joined(self, reply: Reply, ticket: Ticket | None) -> Reply | None:
        if ticket is None:
            self._forget(reply)
            return None
        if ticket.known or reply not in self._dispatcher:
            # Its events go to the reply of a put before, of which it was not known whether it
            # arrived; or to another process.
            self._dispatcher.close(reply)
            self._replays.follow(reply, ticket)
        else:
            reply.is_current = True
        return reply

    def _forget(self, reply: Reply) -> None:
        """End a reply that was not put, unless its answer is read on without a client."""
        if not reply.left:
            reply.ended, reply.trace = True, None
            self._dispatcher.close(reply)

    async def _last_of(self, tries: list[Job]) -> Job:
        """The one whose answer can be resumed. Raises `ApiError` if there is none."""
        queue = JobQueue(self._db, tries[0].model)
        ids = [job.id for job in tries]
        known = await self._redis.ask(lambda: queue.owners(ids))
        found = [job for job in tries if job.id in known]
        if not found:
            raise ApiError("answer_gone", "the answer to resume is no longer kept")
        return found[-1]

    async def _remember(self, former: list[Job], patience_s: float) -> None:
        """Let former jobs lead to the one that runs now, for as long as that one is kept."""
        for_ms = self._keep_ms(patience_s)
        queue = JobQueue(self._db, former[0].model)
        await self._redis.ask(lambda: queue.keep([job.id for job in former], for_ms))

    async def _as_at_first(
        self,
        jobs: Sequence[Job],
        answers: Sequence[AnswerSink],
        context: RequestContext,
        resumption: Resumption,
    ) -> list[Job]:
        """The jobs for the model that was chosen when their request came first: its answer is
        there. Raises `ApiError`."""
        name, model = resumption.name(jobs[0].key_id), jobs[0].model
        known, asked = KnownRequests(self._db), jobs[0].moved_from or model
        keep_ms = self._keep_ms(resumption.patience_s)
        first = await self._redis.ask(lambda: known.first_choice(name, model, keep_ms))
        if first == model or first not in self._models.configured:
            return list(jobs)
        moved_from = "" if first == asked else asked
        context.model, context.moved_by = first, "before" if moved_from else None
        chosen = [replace(job, model=first, moved_from=moved_from) for job in jobs]
        answers[0].rename(self._models.served_name(chosen[0]))
        return chosen

    async def _claim_key(self, job: Job, resumption: Resumption) -> None:
        """See that an `Idempotency-Key` names one request. Raises `ApiError`."""
        keep_ms = self._keep_ms()
        name, digest = resumption.name(job.key_id), resumption.digest
        known = KnownRequests(self._db)
        if not await self._redis.ask(lambda: known.claim(name, digest, keep_ms)):
            raise conflict()

    def _keep_ms(self, patience_s: float = 0.0) -> int:
        return int((self._models.limits.total_timeout_s + patience_s) * 1000) + KEEP_MS

    async def _first_entry(self) -> str:
        """The last entry that was read of the reply stream: all of an answer comes after it."""
        if self._dispatcher.draining:
            raise ApiError(ErrorCode.DRAINING.value, "this gateway is stopping")
        if self._link.down_for_s() >= PATIENCE_S:
            raise BackendDown
        deadline = time.monotonic() + PATIENCE_S
        # It opens just after the start of this process, and then stays.
        while self._dispatcher.last is None:
            if time.monotonic() > deadline:
                raise BackendDown
            await asyncio.sleep(RETRY_S)
        return self._dispatcher.last


def _is_over(ticket: Ticket | Conflict | WasCancelled) -> bool:
    """Return whether a job has ended without an answer."""
    return isinstance(ticket, WasCancelled) or (isinstance(ticket, Ticket) and ticket.may_retry)


def _good(ticket: Ticket | Conflict | WasCancelled) -> Ticket:
    """Raises `ApiError`."""
    if isinstance(ticket, Conflict):
        raise conflict()
    if isinstance(ticket, WasCancelled):
        message = "the request with this `Idempotency-Key` was given up; use another key"
        raise ApiError("answer_gone", message)
    return ticket


def _present(reply: Reply | None) -> Reply:
    if reply is None:
        raise AssertionError("what may not be retried is joined")
    return reply
