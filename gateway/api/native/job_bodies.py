"""Bodies of ew's own API for background jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.bus.background_job import BackgroundJob
from contract.messages import Delta, Done
from contract.wire import decode_frame
from gateway.api.native.answer_body import AnswerBody
from gateway.api.native.schemas import ErrorBody, InferenceAnswer
from gateway.api.native.wire import NativeWhole
from gateway.streams.dialects import AnswerChoice, Timings

JobStateName = Literal["queued", "running", "done", "failed", "cancelled"]


class WebhookState(AnswerBody):
    """Where a job's end is told, and what came of it."""

    url: str
    tries: int
    last: str = Field(description="What came of the last try; empty before it.")


class JobBody(AnswerBody):
    """A background job. Times are Unix seconds; `attempts` counts how often a worker began it.
    `result` is there once it is done."""

    id: str
    model_id: str
    state: JobStateName
    created_unix_s: float
    started_unix_s: float | None
    ended_unix_s: float | None
    expires_unix_s: float | None = Field(description="When its answer is forgotten, or earlier.")
    attempts: int
    result: InferenceAnswer | None = None
    error: ErrorBody | None = None
    webhook: WebhookState | None = None


class JobsBody(AnswerBody):
    """Jobs of this key, the newest first; `nextAfter` is the `after` of the next page."""

    jobs: list[JobBody]
    next_after: str | None


def timings_of(job: BackgroundJob) -> Timings:
    """Milliseconds from a job's creation."""
    outcome = job.outcome
    started, first = (
        max(0, at - job.created_ms) if at else 0
        for at in (outcome.started_ms, outcome.first_token_ms)
    )
    return Timings(started, first, job.ended_ms - job.created_ms)


def job_body(job: BackgroundJob, state: JobStateName) -> JobBody:
    """A job as it is shown. Raises `UNREADABLE`."""
    error, outcome, webhook = job.outcome.error, job.outcome, job.webhook
    told = error and ErrorBody(
        code=error.code,
        message=error.message,
        request_id=job.about.request_id,
        retryable=error.retryable,
        field=error.field,
    )
    return JobBody(
        id=job.id,
        model_id=job.about.model,
        state=state,
        created_unix_s=job.created_ms / 1000,
        started_unix_s=outcome.started_ms / 1000 or None,
        ended_unix_s=job.ended_ms / 1000 or None,
        expires_unix_s=job.expires_ms / 1000 or None,
        attempts=outcome.attempts,
        result=_result(job) if job.answer else None,
        error=told,
        webhook=webhook
        and WebhookState(url=webhook.url, tries=job.webhook_tries, last=job.webhook_word),
    )


def _result(job: BackgroundJob) -> InferenceAnswer | None:
    dialect, choice = NativeWhole(job.about.model, job.about.request_id), AnswerChoice()
    for envelope in decode_frame(job.answer):
        if isinstance(envelope.event, Delta):
            choice.add(envelope.event)
        elif isinstance(envelope.event, Done):
            return dialect.answer([choice], envelope.event, timings_of(job))
    return None
