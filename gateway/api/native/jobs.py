"""Background jobs in ew's own API."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from msgspec.structs import replace

from contract.bus.background_job import BackgroundJob, JobState, Webhook
from gateway.api.background import accept, follow, is_running, own_job
from gateway.api.inference import checked, read
from gateway.api.native.job_bodies import (
    JobBody,
    JobsBody,
    JobStateName,
    job_body,
    timings_of,
)
from gateway.api.native.schemas import InferenceRequest
from gateway.api.native.wire import NativeStream
from gateway.api.openapi import (
    IDEMPOTENCY_PARAMETER,
    LAST_EVENT_PARAMETER,
    NATIVE_ERRORS,
    NATIVE_GENERATION_ERRORS,
    NATIVE_STREAM,
    json_request,
)
from gateway.background.events import tell
from gateway.background.patience import patiently
from gateway.http.errors import ApiError
from gateway.http.headers import context_of, header
from gateway.jobs.resumption import last_event
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.answers import StreamAnswer
from gateway.streams.sse import HEADERS

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])
_CREATE: Final[dict[str, Any]] = {
    **json_request(InferenceRequest),
    "parameters": [IDEMPOTENCY_PARAMETER],
}
_TEXT_HEADERS: Final = [(name.decode(), value.decode()) for name, value in HEADERS]
_MOST_LISTED: Final = 100
After = Annotated[str, Query(max_length=64, description="The `nextAfter` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=_MOST_LISTED)]


@router.post(
    "",
    status_code=202,
    summary="Ask a model for an answer that is kept",
    openapi_extra=_CREATE,
    responses={202: {"model": JobBody}, **NATIVE_GENERATION_ERRORS},
    response_class=Response,
)
async def post_job(request: Request) -> Response:
    return await create_job(request, await read(request, InferenceRequest))


async def create_job(request: Request, asked: InferenceRequest) -> Response:
    """Take a job, and answer where it is. Raises `ApiError`."""
    process = process_of(request)
    (job,), resumption = checked(request, asked)
    webhook = None
    if asked.webhook is not None:
        webhook = Webhook(asked.webhook.url, asked.webhook.secret)
        process.webhooks.hosts.check(webhook.url, "webhook.url")
    digest = resumption.digest if resumption else ""
    if asked.priority_class is None:
        # No client waits at a connection.
        job = replace(job, turn=replace(job.turn, priority="batch"))
    record = await accept(request, job, digest=digest, webhook=webhook)
    return Response(
        (await _shown(process, record)).model_dump_json(by_alias=True),
        202,
        {"location": f"{router.prefix}/{record.id}"},
        "application/json",
    )


@router.get("", summary="The jobs of this key, the newest first", responses=NATIVE_ERRORS)
async def list_jobs(request: Request, limit: Limit = 20, after: After = "") -> JobsBody:
    process, key = process_of(request), context_of(request.scope).key
    records = process.keeper.records
    found = await patiently(lambda: records.of_key(key.id if key else "", limit + 1, after))
    shown = await asyncio.gather(*(_shown(process, each) for each in found[:limit]))
    return JobsBody(jobs=shown, next_after=found[limit - 1].id if len(found) > limit else None)


@router.get("/{job_id}", summary="A job, and its answer when it is done", responses=NATIVE_ERRORS)
async def get_job(request: Request, job_id: str) -> JobBody:
    return await _shown(process_of(request), await own_job(request, job_id))


@router.delete(
    "/{job_id}",
    summary="Cancel a job that is open; forget one that has ended",
    responses={204: {"description": "It had ended, and is forgotten."}, **NATIVE_ERRORS},
    response_model=JobBody,
)
async def delete_job(request: Request, job_id: str) -> Any:
    process, record = process_of(request), await own_job(request, job_id)
    if record.state is JobState.OPEN:
        await process.keeper.cancel(record)
        return await _shown(process, await own_job(request, job_id))
    await patiently(lambda: process.keeper.records.forget(job_id))
    return Response(status_code=204)


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job that is open, and keep its record",
    responses=NATIVE_ERRORS,
)
async def cancel_job(request: Request, job_id: str) -> JobBody:
    process, record = process_of(request), await own_job(request, job_id)
    if record.state is not JobState.OPEN:
        raise ApiError("job_has_ended", f"the job is {record.state.value} already")
    await process.keeper.cancel(record)
    return await _shown(process, await own_job(request, job_id))


@router.get(
    "/{job_id}/stream",
    summary="The events of a job, from the first or after `Last-Event-ID`",
    openapi_extra={"parameters": [LAST_EVENT_PARAMETER]},
    responses={200: NATIVE_STREAM, **NATIVE_ERRORS},
    response_class=Response,
)
async def stream_job(request: Request, job_id: str) -> Response:
    after = last_event(header(request.scope["headers"], b"last-event-id"))
    record = await own_job(request, job_id)
    request_id = record.about.request_id
    answer = StreamAnswer(NativeStream(record.about.model, request_id), request_id, after.seq)
    if record.state is JobState.OPEN:
        return await follow(request, record, answer, after)
    answer.open()
    if record.outcome.error is not None:
        error = record.outcome.error
        answer.fail(ApiError(error.code, error.message, retryable=error.retryable))
    else:
        tell(record.answer, answer, timings_of(record), after)
    return Response(answer.writer.gathered, headers=dict(_TEXT_HEADERS))


async def _shown(process: GatewayProcess, record: BackgroundJob) -> JobBody:
    state: JobStateName = "queued"
    if record.state is not JobState.OPEN:
        state = record.state.value
    elif await is_running(process, record):
        state = "running"
    return job_body(record, state)
