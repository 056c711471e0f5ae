"""Jobs on their way into the queue, each with the reply that waits for its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from contract.bus.client import RedisClient
from contract.messages import ErrorCode, Job
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext
from gateway.jobs.intake import Intake
from gateway.jobs.joining import Joining, good_ticket
from gateway.jobs.media.intake import MediaIntake
from gateway.jobs.models import Models
from gateway.jobs.patient_link import PATIENCE_S, RETRY_S, BackendDown, PatientLink
from gateway.jobs.queue_memory import QueueMemory
from gateway.jobs.resumption import Resumption
from gateway.jobs.routing.moving import Moving
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
        self._media = media
        self._link = link
        self._models = models
        self._dispatcher = dispatcher
        self._metrics = metrics
        #: Set by whoever opens it; None where traces are off.
        self.tracer: Tracer | None = None
        self._moving = moving
        large, small = PatientLink(link, _ASK_AT_ONCE), PatientLink(link, _PUT_AT_ONCE)
        self._intake = Intake(db, small, large, models, dispatcher, canceller, memory)
        self._joining = Joining(db, large, self._intake, models, dispatcher, replays, canceller)

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
            jobs = await self._joining.as_at_first(jobs, answers, context, resumption)
        reply_to = partial(self._reply, context, resumption, first)
        replies = [reply_to(job, answer) for job, answer in zip(jobs, answers, strict=True)]
        if resumption is None:
            return await self._admit_new(jobs, replies)
        makers = [partial(reply_to, answer=answer) for answer in answers]
        if resumption.after != NOTHING:
            return [await self._joining.resume(jobs[0], makers[0], resumption)]
        replies = await self._joining.join_or_put(jobs, replies, resumption, makers)
        self._moving.watch(jobs, replies, resumption.name(jobs[0].key_id))
        return replies

    def _reply(
        self,
        context: RequestContext,
        resumption: Resumption | None,
        first: str,
        job: Job,
        answer: AnswerSink,
    ) -> Reply:
        """Return the reply to a job, of which nothing has come before the entry `first`."""
        reply = Reply(
            job.id,
            job.model,
            answer,
            context,
            self._metrics.of(job.model),
            first,
            resumable=resumption is not None,
            after=resumption.after if resumption else NOTHING,
            patience_s=resumption.patience_s if resumption else 0.0,
        )
        reply.may_wait_s = job.turn.within_s
        if self.tracer is not None:
            is_stream = not isinstance(answer, WholeAnswer)
            reply.trace = self.tracer.job(job, context.trace, reply.began, is_stream=is_stream)
        return reply

    async def _admit_new(self, jobs: Sequence[Job], replies: list[Reply]) -> list[Reply]:
        for reply in replies:
            self._dispatcher.open(reply)
        try:
            tickets = await self._intake.put(jobs, replies, "")
            for reply, ticket in zip(replies, tickets, strict=True):
                reply.position = good_ticket(ticket).waiting
                reply.is_current = True
        except BaseException:
            for reply in replies:
                self._joining.forget(reply)
            raise
        self._moving.watch(jobs, replies)
        return replies

    async def _first_entry(self) -> str:
        """Return the last entry that was read of the reply stream: all of an answer comes after
        it. Raises `ApiError`."""
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
