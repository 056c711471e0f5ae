"""Jobs on their way into the queue: what a key may ask for, and what if the queue refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace
from redis.exceptions import OutOfMemoryError

from contract.bus.client import RedisClient
from contract.bus.known_requests import KnownRequests
from contract.bus.queue import KEEP_MS, JobQueue
from contract.bus.tickets import Conflict, NotServed, QueueFull, QueueTooLarge, Ticket, WasCancelled
from contract.limits import LimitReached
from contract.media import media_of
from contract.messages import ErrorCode, Job
from contract.wire import encode_job
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext
from gateway.jobs.allowance import (
    consumption_of,
    limit_error,
    quota_headers,
    quotas,
    reached_quota,
)
from gateway.jobs.defaults import with_defaults
from gateway.jobs.limits import bounded, check_limits, check_logprobs, check_prompts, most_tokens
from gateway.jobs.media import MediaIntake
from gateway.jobs.models import Models
from gateway.jobs.patient_link import PATIENCE_S, RETRY_S, BackendDown, PatientLink
from gateway.jobs.queue_memory import QueueMemory
from gateway.jobs.refusals import cannot_load, conflict, not_served
from gateway.jobs.resumption import Resumption, tries_of
from gateway.streams.answers import AnswerSink
from gateway.streams.cancelling import Canceller
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.link import Link
from gateway.streams.metrics import Metrics
from gateway.streams.replays import Replays
from gateway.streams.reply import Reply
from gateway.streams.sse import NOTHING

#: Fewer than the client has connections: the rest is for what the process itself has to say.
_ASK_AT_ONCE: Final = 12
#: Those that put jobs share a connection, and its round trips.
_PUT_AT_ONCE: Final = 512
_NEARLY_FULL: Final = "the queue's memory is nearly full"


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
    ) -> None:
        self._db = db
        self._memory = memory
        self._media = media
        self._link = link
        self._models = models
        self._dispatcher = dispatcher
        self._replays = replays
        self._canceller = canceller
        self._metrics = metrics
        self._redis = PatientLink(link, _ASK_AT_ONCE)
        self._putting = PatientLink(link, _PUT_AT_ONCE)

    def check(
        self, job: Job, context: RequestContext, names: Mapping[str, str], *, lenient: bool
    ) -> Job:
        """The job, for the model that it names, if this key may ask that model for this. `names`
        gives the API's own names of the fields that limits are about; a `lenient` API gives fewer
        tokens where a request asks for too many. Raises `ApiError`."""
        named = self._models.find(job.model, context.key)
        if named is None:
            raise ApiError("model_not_found", f"there is no model `{job.model}`")
        model = context.model = named.model
        limits, configured = self._models.limits, self._models.configured[model]
        if lenient:
            job = bounded(job, most_tokens(limits, configured))
        check_limits(job, limits, configured, names)
        status = self._models.status(model)
        if status.registration is not None and status.registration.problem and not status.is_served:
            raise cannot_load(job.model, status.registration.problem)
        return replace(self._media.check(job, status.takes), model=model, adapter=named.adapter)

    def check_whole(self, job: Job, parts: list[Job], names: Mapping[str, str]) -> None:
        """Whether an answer to `parts`, together `job`, may be kept whole. Raises `ApiError`."""
        context = self._models.status(job.model).max_model_len
        configured = self._models.configured[job.model].max_output_len
        longest = min(filter(None, (self._models.limits.max_output_len, configured, context)))
        check_logprobs(job, self._models.limits, longest, names)
        check_prompts(parts, self._models.limits, context)

    async def admit(
        self, job: Job, answer: AnswerSink, context: RequestContext, resumption: Resumption | None
    ) -> Reply:
        """Put a job that was checked; its reply is being answered from now on.

        Raises `ApiError`; the job is then not in the queue, or soon will not be.
        """
        first = await self._first_entry()
        job = await self._media.fetched(job)
        metrics, kept = self._metrics.of(job.model), resumption is not None
        after = resumption.after if resumption else NOTHING
        patience_s = resumption.patience_s if resumption else 0.0

        def reply_to(each: Job) -> Reply:
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
            return reply

        if resumption is not None:
            if resumption.after != NOTHING and (ticket := await self._find(job, resumption)):
                reply = reply_to(job)
                self._replays.follow(reply, ticket)
                return reply
            return await self._admit_once(tries_of(job), reply_to, resumption)
        reply = reply_to(job)
        self._dispatcher.open(reply)
        reply.position = (await self._put_or_close(job, reply)).waiting
        return reply

    async def _admit_once(
        self, tries: list[Job], reply_to: Callable[[Job], Reply], resumption: Resumption
    ) -> Reply:
        """A request that may have been made before: its answer is replayed. One that ended without
        an answer is made anew, unless its client wants the rest of what it has."""
        if not resumption.patience_s:
            await self._claim_key(tries[0], resumption)
        digest = resumption.digest
        if resumption.after != NOTHING:
            job = await self._last_of(tries)
            return await self._join(job, reply_to(job), digest, may_retry=False)
        for number, job in enumerate(tries):
            try:
                is_last = job is tries[-1]
                reply = await self._join(job, reply_to(job), digest, may_retry=not is_last)
            except _Over:
                continue
            if number:
                await self._remember(tries[:number], resumption.patience_s)
            return reply
        raise AssertionError("the last try is never over")

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

    async def _join(self, job: Job, reply: Reply, digest: str, *, may_retry: bool) -> Reply:
        """Put a job, or follow the answer of one that was put before. Raises `_Over` if that one
        has ended without an answer, and `may_retry`."""
        await self._canceller.told(job.id)
        if not self._dispatcher.has_job(job.id):
            self._dispatcher.open(reply)
        try:
            ticket = await self._put(job, reply, digest)
            if may_retry and ticket.may_retry:
                raise _Over
        except WasCancelled:
            self._forget(reply)
            if may_retry:
                raise _Over from None
            message = "the request with this `Idempotency-Key` was given up; use another key"
            raise ApiError("answer_gone", message) from None
        except BaseException:
            self._forget(reply)
            raise
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
            reply.ended = True
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

    async def _put_or_close(self, job: Job, reply: Reply) -> Ticket:
        try:
            ticket = await self._put(job, reply, "")
        except BaseException:
            self._forget(reply)
            raise
        reply.is_current = True
        return ticket

    async def _put(self, job: Job, reply: Reply, digest: str) -> Ticket:
        """Put a job, again and again while Redis does not answer: it is put only once. One that has
        media takes a connection of its own."""
        link = self._redis if media_of(job) else self._putting
        try:
            return await link.ask(lambda: self._put_once(job, reply, digest))
        except (BackendDown, asyncio.CancelledError):
            self._doubt(job, reply)
            raise

    def _doubt(self, job: Job, reply: Reply) -> None:
        """A job may have been put or not. It is cancelled, unless its client may ask for it
        again: then its answer is read on, and kept, without a client."""
        if reply.resumable:
            self._dispatcher.leave(reply)
        else:
            self._canceller.cancel_doubtful(job.model, job.id)

    async def _put_once(self, job: Job, reply: Reply, digest: str) -> Ticket:
        # Not before: a request that comes again is the same, whatever the defaults are by then.
        model = self._models.configured.get(job.model)
        if model is None:
            raise not_served(job.model, self._models.status(job.model).state)
        limits = self._models.limits
        total_s = reply.patience_s or limits.total_timeout_s
        whole = with_defaults(job, model, limits.max_output_len)
        consumption = consumption_of(whole, reply.key, limits, most_tokens(limits, model))
        has_room = self._memory.take(len(encode_job(job)))
        try:
            ticket = await JobQueue(self._db, job.model).put(
                whole,
                self._dispatcher.reply_key,
                reply.first,
                max_waiting=limits.max_waiting,
                # A job that is in the queue already is answered all the same.
                max_bytes=limits.max_waiting_bytes if has_room else 1,
                deadline_ms=int(min(total_s, job.turn.within_s or total_s) * 1000),
                digest=digest,
                consumption=consumption,
            )
            reply.context.quota_headers = quota_headers(quotas(consumption, ticket.counted))
            return ticket
        except LimitReached as reached:
            reply.context.quota_headers = quota_headers(reached_quota(reached))
            raise limit_error(reached) from None
        except OutOfMemoryError:
            raise ApiError("queue_full", "the queue's memory is full") from None
        except QueueTooLarge as full:
            why = f"{full} for `{job.model}` already"
            raise ApiError("queue_full", why if has_room else _NEARLY_FULL) from None
        except QueueFull as full:
            raise ApiError("queue_full", f"{full} for `{job.model}` already") from None
        except NotServed:
            raise not_served(job.model, self._models.status(job.model).state) from None
        except Conflict:
            raise conflict() from None


class _Over(Exception):
    """A job has ended without an answer."""
