"""Background jobs in all APIs: taking one, finding it for its key, and reading
its events while they come or when they are kept."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fastapi import Request, Response
from msgspec.structs import replace

from contract.bus.background_job import AboutJob, BackgroundJob, JobState, Webhook
from contract.bus.queue import JobQueue
from contract.bus.whereabouts import Whereabouts, whereabouts
from contract.messages import Job
from gateway.background.patience import patiently
from gateway.http.errors import ApiError
from gateway.http.headers import context_of
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.answers import StreamAnswer
from gateway.streams.live import LiveResponse
from gateway.streams.reply import Reply
from gateway.streams.sse import EventId

#: A job that is put again is in no queue for a moment.
_BACK_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1


async def accept(
    request: Request,
    job: Job,
    *,
    digest: str = "",
    prefix: str = "job_",
    api: str = "native",
    asked: bytes = b"",
    webhook: Webhook | None = None,
) -> BackgroundJob:
    """Take a job that was checked: it goes on without its client, and its answer is kept. Safe to
    repeat with the same id and `digest`. Its record is found by `prefix` and its id; `api` and
    `asked` are for the API that shows it. Raises `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    about = AboutJob(
        process.models.served_name(job),
        context.request_id,
        process.config.jobs.timeout_s,
        api,
        asked,
    )
    job = replace(job, resumable=True)
    job_id = f"{prefix}{job.id}"
    await process.keeper.accept(job_id, job, about, digest, webhook)
    return await own_job(request, job_id)


async def own_job(
    request: Request, job_id: str, gone: str = "there is no such job, or it is no longer kept"
) -> BackgroundJob:
    """Return a job of the key that asks. Raises `ApiError`, which says `gone` of one of another key
    as of one that is not there."""
    key = context_of(request.scope).key
    record = await process_of(request).keeper.find(job_id)
    if record is None or key is None or record.key_id != key.id:
        raise ApiError("job_not_found", gone)
    return record


async def is_running(process: GatewayProcess, record: BackgroundJob) -> bool:
    """Whether a worker has begun a job that is open. Raises `ApiError`."""
    found = await _whereabouts(process, record)
    return found is not None and found.attempt > 0


async def follow(
    request: Request, record: BackgroundJob, answer: StreamAnswer, after: EventId
) -> Response:
    """Answer with the events of a job while they come, to one who has it up to `after`. Raises
    `ApiError`."""
    process, context = process_of(request), context_of(request.scope)
    deadline = time.monotonic() + _BACK_WITHIN_S
    while (found := await _whereabouts(process, record)) is None:
        if time.monotonic() > deadline:
            raise ApiError("job_waits", "the job is in no queue at the moment; ask again soon")
        await asyncio.sleep(_LOOK_EVERY_S)
        record = await own_job(request, record.id)
        if record.state is not JobState.OPEN:
            raise ApiError("job_waits", "the job has just ended; ask again")
    model = context.model = found.model
    reply = Reply(
        record.queued_as,
        model,
        answer,
        context,
        process.metrics.of(model),
        found.ticket.first,
        resumable=True,
        after=after,
        patience_s=record.about.timeout_s,
    )
    process.replays.follow(reply, found.ticket)
    return LiveResponse(process.dispatcher, [reply], answer.writer)


async def _whereabouts(process: GatewayProcess, record: BackgroundJob) -> Whereabouts | None:
    queue = JobQueue(process.db, _model_of(record))
    return await patiently(lambda: whereabouts(queue, record.queued_as))


def _model_of(record: BackgroundJob) -> str:
    return record.job.model if record.job is not None else record.about.model
