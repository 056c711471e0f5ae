"""One background job while it is open: it is asked for, and its end is stored."""

from __future__ import annotations

import asyncio
import logging

from contract.bus.background import BackgroundJobs
from contract.bus.background_job import BackgroundJob, JobError, JobOutcome, JobState
from contract.messages import ErrorCode
from gateway.background.events import GatheredEvents
from gateway.background.patience import persistently
from gateway.background.unattended import Errand, ErrandEnd, Leaving, Unattended
from gateway.http.errors import ApiError
from gateway.streams.reply import Reply

log = logging.getLogger(__name__)


class KeptJob:
    """A job, kept under the name of a gateway process; its answer is kept for `keep_s` after."""

    def __init__(
        self, record: BackgroundJob, records: BackgroundJobs, keeper: str, keep_s: float
    ) -> None:
        self._record = record
        self._records = records
        self._keeper = keeper
        self._keep_s = keep_s
        self._queued_as = record.queued_as
        self._is_put: asyncio.Future[None] | None = None

    async def run(self, unattended: Unattended, is_put: asyncio.Future[None] | None = None) -> None:
        """Ask for the job and store its end. With `is_put` the caller waits until it is in its
        queue: if it is refused, its record is forgotten, and the future has the `ApiError`."""
        self._is_put = is_put
        try:
            await self._run(unattended)
        except Leaving:
            self._refuse(ApiError(ErrorCode.DRAINING.value, "this gateway is stopping"))
        finally:
            if is_put is not None and not is_put.done():
                is_put.cancel()

    async def _run(self, unattended: Unattended) -> None:
        record = self._record
        if record.job is None:
            error = ApiError("key_ended", "the API key was revoked, or has expired")
            await self._store(JobState.FAILED, JobOutcome(error=_told(error)))
            return
        now_ms = await persistently(self._records.now_ms)
        left_s = record.about.timeout_s - (now_ms - record.created_ms) / 1000
        errand = Errand(
            record.id,
            record.job,
            record.key_id,
            record.about.request_id,
            max(0.0, left_s),
            may_repeat=False,
            may_wait=self._is_put is None,
        )
        ended = await unattended.ask(errand, GatheredEvents, self._note)
        if ended.error is not None and self._is_refused():
            await persistently(self._give_up)
            self._refuse(ended.error)
        else:
            await self._store_end(ended)

    async def _note(self, reply: Reply) -> None:
        """It was put. A later try has another id in the queue."""
        if reply.job_id != self._queued_as:
            self._queued_as = reply.job_id
            await persistently(lambda: self._records.queued_as(self._record.id, self._queued_as))
        if self._is_put is not None and not self._is_put.done():
            self._is_put.set_result(None)

    def _is_refused(self) -> bool:
        """Whether it has never been put, and its caller can be told so."""
        return self._is_put is not None and not self._is_put.done()

    def _refuse(self, error: ApiError) -> None:
        if self._is_put is not None and not self._is_put.done():
            self._is_put.set_exception(error)

    async def _give_up(self) -> None:
        await self._records.end(
            self._record.id, JobState.CANCELLED, JobOutcome(), keep_s=0, keeper=self._keeper
        )
        await self._records.forget(self._record.id)

    async def _store_end(self, ended: ErrandEnd[GatheredEvents]) -> None:
        if ended.error is None:
            await self._store(JobState.DONE, _outcome(ended), ended.sink.encoded())
        elif ended.error.code == ErrorCode.CANCELLED.value:
            await self._store(JobState.CANCELLED, _outcome(ended))
        else:
            await self._store(JobState.FAILED, _outcome(ended))

    async def _store(self, state: JobState, outcome: JobOutcome, answer: bytes = b"") -> None:
        is_stored = await persistently(
            lambda: self._records.end(
                self._record.id,
                state,
                outcome,
                keep_s=self._keep_s,
                keeper=self._keeper,
                answer=answer,
            )
        )
        if not is_stored:
            log.info("background job %s was ended by another process", self._record.id)


def _outcome(ended: ErrandEnd[GatheredEvents]) -> JobOutcome:
    error = _told(ended.error) if ended.error else None
    reply = ended.reply
    if reply is None or not reply.first_attempt:
        return JobOutcome(error=error)
    # An attempt's number is when it began, in microseconds.
    started_ms = reply.first_attempt // 1000
    first_ms = started_ms + int((reply.first_at - reply.started_at) * 1000)
    return JobOutcome(reply.attempts, started_ms, first_ms if reply.first_at else 0, error)


def _told(error: ApiError) -> JobError:
    return JobError(error.code, error.message, error.retryable, error.field)
