"""OpenAI's Responses API, as its official clients and agents use it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import orjson
from fastapi import APIRouter, Query, Request, Response
from msgspec.structs import replace

from contract.bus.background_job import AboutJob, BackgroundJob, JobState
from contract.messages import Job
from gateway.api.background import accept, follow, is_running, own_job
from gateway.api.inference import answer_to, checked, read
from gateway.api.openapi import (
    OPENAI_ERRORS,
    OPENAI_GENERATION_ERRORS,
    RESUME_PARAMETERS,
    event_stream,
    json_request,
)
from gateway.api.prompt_count import PromptCount
from gateway.api.responses import kept
from gateway.api.responses.bodies import (
    DeletedResponse,
    InputTokens,
    ResponseBody,
    ResponseEvent,
    ResponseItems,
)
from gateway.api.responses.output import Output
from gateway.api.responses.response import ID_PREFIX
from gateway.api.responses.schemas import InputTokensRequest, ResponsesRequest
from gateway.api.responses.storing import Store, StoredAnswer
from gateway.api.responses.wire import ResponseStream, ResponseWhole
from gateway.background.events import tell
from gateway.background.patience import patiently
from gateway.http.error_answers import OPENAI
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import RequestContext, context_of
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.answers import AnswerSink, StreamAnswer, WholeAnswer
from gateway.streams.dialects import Timings
from gateway.streams.sse import HEADERS, NOTHING

router = APIRouter(prefix="/v1/responses", tags=["openai"])
_ENDING: Final = (
    "With `stream`: events in OpenAI's order, the last of which is `response.completed`, "
    "`response.incomplete` or `response.failed`. With an `Idempotency-Key` they have ids; send the "
    "request again, with `Last-Event-ID`, for the rest."
)
_EVENTS: Final = event_stream(_ENDING, ResponseEvent)
_TEXT_HEADERS: Final = {name.decode(): value.decode() for name, value in HEADERS}
_NO_TIMINGS: Final = Timings(0, 0, 0)
After = Annotated[int, Query(ge=-1, description="The `sequence_number` to go on after.")]
Asked = TypeVar("Asked", bound=ResponsesRequest)
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post(
    "",
    summary="Response",
    openapi_extra={**json_request(ResponsesRequest), "parameters": RESUME_PARAMETERS},
    responses={200: {"model": ResponseBody, **_EVENTS}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def create_response(request: Request) -> Response:
    asked = await read(request, ResponsesRequest)
    own = len(asked.input)
    asked = await _with_history(request, asked)
    if asked.background:
        return await _go_on_alone(request, asked, own)
    process = process_of(request)

    def make(
        asked: ResponsesRequest, job: Job, context: RequestContext, resumption: Resumption | None
    ) -> AnswerSink:
        request_kept = kept.KeptRequest.of(asked, own, job, "in_progress")
        shape, request_id = request_kept.shape(), context.request_id
        if asked.stream:
            stream = ResponseStream(shape, resumable=bool(resumption))
            after = resumption.after.seq if resumption else -1
            sink: StreamAnswer | WholeAnswer[Output] = StreamAnswer(stream, request_id, after)
        else:
            sink = WholeAnswer(ResponseWhole(shape), request_id)
        if not asked.is_stored:
            return sink
        return StoredAnswer(sink, shape, _store(process, job, context, request_kept))

    return await answer_to(request, asked, make)


@router.post(
    "/input_tokens",
    summary="How many tokens a response's prompt has",
    openapi_extra=json_request(InputTokensRequest),
    responses={200: {"model": InputTokens}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def count_input_tokens(request: Request) -> Response:
    asked = await _with_history(request, await read(request, InputTokensRequest))
    return await answer_to(request, asked, _count)


@router.get(
    "/{response_id}",
    summary="A response that is kept, or its events",
    responses={200: {"model": ResponseBody, **_EVENTS}, **OPENAI_ERRORS},
    response_class=Response,
)
async def get_response(
    request: Request, response_id: str, stream: bool = False, starting_after: After = -1
) -> Response:
    record = await _own(request, response_id)
    if not stream:
        return _json(await _shown(process_of(request), record))
    return await _events(request, record, starting_after)


@router.delete("/{response_id}", summary="Forget a response", responses=OPENAI_ERRORS)
async def delete_response(request: Request, response_id: str) -> DeletedResponse:
    process, record = process_of(request), await _own(request, response_id)
    if record.state is JobState.OPEN:
        await process.keeper.cancel(record)
    await patiently(lambda: process.keeper.records.forget(response_id))
    return DeletedResponse(id=response_id)


@router.post(
    "/{response_id}/cancel",
    summary="Cancel a response in the background",
    responses={200: {"model": ResponseBody}, **OPENAI_ERRORS},
    response_class=Response,
)
async def cancel_response(request: Request, response_id: str) -> Response:
    process, record = process_of(request), await _own(request, response_id)
    if not kept.KeptRequest.read(record).begun["background"]:
        raise invalid("response_id", "Cannot cancel a synchronous response.")
    if record.state is JobState.OPEN:
        await process.keeper.cancel(record)
        record = await _own(request, response_id)
    return _json(await _shown(process, record))


@router.get(
    "/{response_id}/input_items",
    summary="What a response answers",
    responses={200: {"model": ResponseItems}, **OPENAI_ERRORS},
    response_class=Response,
)
async def list_input_items(
    request: Request,
    response_id: str,
    limit: Limit = 20,
    after: str = "",
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    items = kept.KeptRequest.read(await _own(request, response_id)).own_items()
    return _json(kept.listed(items, limit=limit, after=after, newest_first=order == "desc"))


async def _go_on_alone(request: Request, asked: ResponsesRequest, own: int) -> Response:
    """Take a response that goes on without its client; answer with it, or with its events."""
    process = process_of(request)
    (job,), resumption = checked(request, asked)
    shown = replace(job, model=process.models.served_name(job))
    request_kept = kept.KeptRequest.of(asked, own, shown, "queued")
    record = await accept(
        request,
        job,
        digest=resumption.digest if resumption else "",
        prefix=ID_PREFIX,
        api=kept.API,
        asked=request_kept.encoded(),
    )
    if asked.stream:
        return await _events(request, record)
    # One that was just put is queued, though a worker may have it already.
    return _json(await _shown(process, record) if resumption else kept.shown(record))


async def _events(request: Request, record: BackgroundJob, after: int = -1) -> Response:
    """Answer with the events of a response after that number, while they come or as they are
    kept."""
    shape = kept.KeptRequest.read(record).shape(record.ended_ms / 1000 or None)
    answer = StreamAnswer(
        ResponseStream(shape, starting_after=after), context_of(request.scope).request_id
    )
    if record.state is JobState.OPEN:
        return await follow(request, record, answer, NOTHING)
    if record.state is JobState.DONE:
        tell(record.answer, answer, _NO_TIMINGS)
    else:
        answer.open()
        answer.fail(kept.failure_of(record))
    return Response(answer.writer.gathered, headers=_TEXT_HEADERS)


async def _with_history(request: Request, asked: Asked) -> Asked:
    """Return what is asked, after all that was said up to the end of the response before it, if it
    names one. Raises `ApiError`."""
    previous = asked.previous_response_id
    if previous is None:
        return asked
    try:
        before = kept.conversation(await _own(request, previous))
    except ApiError as error:
        if error.code != "job_not_found":
            raise
        raise invalid("previous_response_id", kept.gone(previous)) from None
    return asked.model_copy(update={"input": [*before, *asked.input]})


def _count(
    asked: InputTokensRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    kind = "response.input_tokens"
    count = PromptCount(OPENAI, lambda tokens: {"object": kind, "input_tokens": tokens})
    return WholeAnswer(count, context.request_id)


def _store(
    process: GatewayProcess, job: Job, context: RequestContext, request_kept: kept.KeptRequest
) -> Store:
    """Return the function that stores the answer to a job whose client is here."""

    async def store(answer: bytes) -> None:
        timeout_s, asked = process.config.jobs.timeout_s, request_kept.encoded()
        about = AboutJob(job.model, context.request_id, timeout_s, kept.API, asked)
        own = replace(job, model=context.model, resumable=True)
        await process.keeper.keep_answer(f"{ID_PREFIX}{job.id}", own, about, answer)

    return store


async def _own(request: Request, response_id: str) -> BackgroundJob:
    """A response of the key that asks. Raises `ApiError`."""
    if not response_id.startswith(ID_PREFIX):
        raise ApiError("job_not_found", kept.gone(response_id))
    return await own_job(request, response_id, kept.gone(response_id))


async def _shown(process: GatewayProcess, record: BackgroundJob) -> dict[str, Any]:
    is_open = record.state is JobState.OPEN
    return kept.shown(record, is_running=is_open and await is_running(process, record))


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
