"""Putting the jobs of one request into their model's queue, all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace
from redis.exceptions import OutOfMemoryError

from contract.bus.client import RedisClient
from contract.bus.queue import JobQueue
from contract.bus.tickets import Conflict, NotServed, QueueFull, QueueTooLarge, Ticket, WasCancelled
from contract.limits import LimitReached
from contract.media import media_of
from contract.messages import Job
from contract.wire import encode_job
from gateway.http.errors import ApiError
from gateway.jobs.allowance import (
    consumption_of,
    limit_error,
    quota_headers,
    quotas,
    reached_quota,
)
from gateway.jobs.defaults import with_defaults
from gateway.jobs.limits import most_tokens
from gateway.jobs.models import Models
from gateway.jobs.patient_link import BackendDown, PatientLink
from gateway.jobs.queue_memory import QueueMemory
from gateway.jobs.refusals import no_model, not_served
from gateway.streams.cancelling import Canceller
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.reply import Reply

#: So much of a queue may jobs of the class `batch` fill: people find room beside them.
_BATCH: Final = 0.5
_NEARLY_FULL: Final = "the queue's memory is nearly full"


class Intake:
    """The entrance of all queues: each job is put once, however often Redis has to be asked.
    `large` is the link for jobs with media."""

    def __init__(
        self,
        db: RedisClient,
        small: PatientLink,
        large: PatientLink,
        models: Models,
        dispatcher: Dispatcher,
        canceller: Canceller,
        memory: QueueMemory,
    ) -> None:
        self._db = db
        self._small = small
        self._large = large
        self._models = models
        self._dispatcher = dispatcher
        self._canceller = canceller
        self._memory = memory
        self._queues: dict[str, JobQueue] = {}

    async def put(
        self, jobs: Sequence[Job], replies: Sequence[Reply], digest: str
    ) -> list[Ticket | Conflict | WasCancelled]:
        """Put jobs, again and again while Redis does not answer: they are put only once. Those that
        have media take a connection of their own."""
        link = self._large if any(map(media_of, jobs)) else self._small
        try:
            return await link.ask(lambda: self._put_once(jobs, replies, digest))
        except (BackendDown, asyncio.CancelledError):
            for job, reply in zip(jobs, replies, strict=True):
                self._doubt(job, reply)
            raise

    def _doubt(self, job: Job, reply: Reply) -> None:
        """A job may have been put or not. It is cancelled, unless its client may ask for it
        again: then its answer is read on, and kept, without a client."""
        if reply.resumable:
            self._dispatcher.leave(reply)
        else:
            self._canceller.cancel_doubtful(job.model, job.id)

    def _queue(self, model: str) -> JobQueue:
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = JobQueue(self._db, model)
        return queue

    async def _put_once(
        self, jobs: Sequence[Job], replies: Sequence[Reply], digest: str
    ) -> list[Ticket | Conflict | WasCancelled]:
        # Not before: a request that comes again is the same, whatever the defaults are by then.
        job, reply = jobs[0], replies[0]
        model = self._models.configured.get(job.model)
        if model is None:
            # It was removed since the request was checked; a background job may wait for days.
            raise no_model(job.model)
        limits, most = self._models.limits, most_tokens(self._models.limits, model)
        total_s = reply.patience_s or limits.total_timeout_s
        plain = [with_defaults(each, model, limits.max_output_len) for each in jobs]
        whole = [_traced(*each) for each in zip(plain, replies, strict=True)]
        consumptions = [consumption_of(each, reply.key, limits, most) for each in whole]
        size, is_batch = sum(len(encode_job(each)) for each in jobs), job.turn.priority == "batch"
        has_room, share = self._memory.take(size, is_batch=is_batch), _BATCH if is_batch else 1
        try:
            tickets = await self._queue(job.model).put_all(
                whole,
                self._dispatcher.reply_key,
                reply.first,
                max_waiting=max(1, int(limits.max_waiting * share)),
                # A job that is in the queue already is answered all the same.
                max_bytes=int(limits.max_waiting_bytes * share) if has_room else 1,
                deadline_ms=int(min(total_s, job.turn.within_s or total_s) * 1000),
                digest=digest,
                consumptions=consumptions,
                was_served=self._models.was_served(job.model),
            )
            counted = next((each.counted for each in tickets if isinstance(each, Ticket)), ())
            reply.context.quota_headers = quota_headers(quotas(consumptions[0], counted))
            return tickets
        except LimitReached as reached:
            reply.context.quota_headers = quota_headers(reached_quota(reached))
            raise limit_error(reached, len(jobs)) from None
        except OutOfMemoryError:
            raise ApiError("queue_full", "the queue's memory is full") from None
        except QueueTooLarge as full:
            why = f"{full} for `{job.model}` already"
            raise ApiError("queue_full", why if has_room else _NEARLY_FULL) from None
        except QueueFull as full:
            raise ApiError("queue_full", f"{full} for `{job.model}` already") from None
        except NotServed:
            raise self._not_served(job.model) from None

    def _not_served(self, model: str) -> ApiError:
        """Return what is told where nobody takes a job, with what its workers wait for."""
        stage = self._models.condition(model).stage
        return not_served(model, self._models.status(model).state, stage)


def _traced(job: Job, reply: Reply) -> Job:
    """Return the job with the span that its worker's engine may continue."""
    return job if reply.trace is None else replace(job, trace=reply.trace.context)
