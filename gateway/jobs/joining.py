"""Requests that are sent again: they join the answers of those that were made before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from contract.bus.client import RedisClient
from contract.bus.known_requests import KnownRequests
from contract.bus.queue import KEEP_MS, JobQueue
from contract.bus.tickets import Conflict, Ticket, WasCancelled
from contract.messages import Job
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext
from gateway.jobs.intake import Intake
from gateway.jobs.models import Models
from gateway.jobs.patient_link import PatientLink
from gateway.jobs.refusals import conflict
from gateway.jobs.resumption import Resumption, tries_of
from gateway.streams.answers import AnswerSink
from gateway.streams.cancelling import Canceller
from gateway.streams.dispatcher import Dispatcher
from gateway.streams.replays import Replays
from gateway.streams.reply import Reply


class Joining:
    """Puts the jobs of requests that may have been made before, each once."""

    def __init__(
        self,
        db: RedisClient,
        redis: PatientLink,
        intake: Intake,
        models: Models,
        dispatcher: Dispatcher,
        replays: Replays,
        canceller: Canceller,
    ) -> None:
        self._db = db
        self._redis = redis
        self._intake = intake
        self._models = models
        self._dispatcher = dispatcher
        self._replays = replays
        self._canceller = canceller

    async def as_at_first(
        self,
        jobs: Sequence[Job],
        answers: Sequence[AnswerSink],
        context: RequestContext,
        resumption: Resumption,
    ) -> list[Job]:
        """Return the jobs for the model that was chosen when their request came first: it has the
        answer. Raises `ApiError`."""
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

    async def join_or_put(
        self,
        jobs: Sequence[Job],
        replies: Sequence[Reply],
        resumption: Resumption,
        makers: Sequence[Callable[[Job], Reply]],
    ) -> list[Reply]:
        """Put the jobs of a request, or follow the answers to those that were put before; what
        ended without an answer is made anew. `makers` make a reply to a job of each. Raises
        `ApiError`."""
        if not resumption.patience_s:
            await self._claim_key(jobs[0], resumption)
        joined = await self._join(jobs, replies, resumption.digest, may_retry=True)
        try:
            for number, (job, reply_to) in enumerate(zip(jobs, makers, strict=True)):
                if joined[number] is None:
                    joined[number] = await self._retry(job, reply_to, resumption)
        except BaseException:
            for reply in filter(None, joined):
                self._dispatcher.leave(reply)
            raise
        return [_present(reply) for reply in joined]

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

    async def resume(
        self, job: Job, reply_to: Callable[[Job], Reply], resumption: Resumption
    ) -> Reply:
        """Go on with the answer that a client has a part of. Raises `ApiError`."""
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
                None if may_retry and _is_over(ticket) else good_ticket(ticket)
                for ticket in await self._intake.put(jobs, replies, digest)
            ]
        except BaseException:
            for reply in replies:
                self.forget(reply)
            raise
        return [self._joined(*each) for each in zip(replies, tickets, strict=True)]

    def _joined(self, reply: Reply, ticket: Ticket | None) -> Reply | None:
        if ticket is None:
            self.forget(reply)
            return None
        if ticket.known or reply not in self._dispatcher:
            # Its events go to the reply of a put before, of which it was not known whether it
            # arrived; or to another process.
            self._dispatcher.close(reply)
            self._replays.follow(reply, ticket)
        else:
            reply.is_current = True
        return reply

    def forget(self, reply: Reply) -> None:
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

    async def _claim_key(self, job: Job, resumption: Resumption) -> None:
        """See that an `Idempotency-Key` names one request. Raises `ApiError`."""
        keep_ms = self._keep_ms()
        name, digest = resumption.name(job.key_id), resumption.digest
        known = KnownRequests(self._db)
        if not await self._redis.ask(lambda: known.claim(name, digest, keep_ms)):
            raise conflict()

    def _keep_ms(self, patience_s: float = 0.0) -> int:
        return int((self._models.limits.total_timeout_s + patience_s) * 1000) + KEEP_MS


def _is_over(ticket: Ticket | Conflict | WasCancelled) -> bool:
    """Return whether a job has ended without an answer."""
    return isinstance(ticket, WasCancelled) or (isinstance(ticket, Ticket) and ticket.may_retry)


def good_ticket(ticket: Ticket | Conflict | WasCancelled) -> Ticket:
    """Return the ticket of a job that was put, or is known. Raises `ApiError`."""
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
