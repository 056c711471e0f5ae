"""OpenAI's Responses API, as its official clients and agents use it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from contract.messages import Job
from gateway.api.inference import answer
from gateway.api.openapi import (
    OPENAI_GENERATION_ERRORS,
    RESUME_PARAMETERS,
    event_stream,
    json_request,
)
from gateway.api.prompt_count import PromptCount
from gateway.api.responses.bodies import InputTokens, ResponseBody, ResponseEvent
from gateway.api.responses.response import begun
from gateway.api.responses.schemas import InputTokensRequest, ResponsesRequest
from gateway.api.responses.tools import names_of
from gateway.api.responses.wire import ResponseShape, ResponseStream, ResponseWhole
from gateway.http.error_answers import OPENAI
from gateway.http.headers import RequestContext
from gateway.jobs.resumption import Resumption
from gateway.streams.answers import AnswerSink, StreamAnswer, WholeAnswer

router = APIRouter(prefix="/v1/responses", tags=["openai"])
_ENDING: Final = (
    "With `stream`: events in OpenAI's order, the last of which is `response.completed`, "
    "`response.incomplete` or `response.failed`. With an `Idempotency-Key` they have ids; send the "
    "request again, with `Last-Event-ID`, for the rest."
)


@router.post(
    "",
    summary="Response",
    openapi_extra={**json_request(ResponsesRequest), "parameters": RESUME_PARAMETERS},
    responses={
        200: {"model": ResponseBody, **event_stream(_ENDING, ResponseEvent)},
        **OPENAI_GENERATION_ERRORS,
    },
    response_class=Response,
)
async def create_response(request: Request) -> Response:
    return await answer(request, ResponsesRequest, _response)


@router.post(
    "/input_tokens",
    summary="How many tokens a response's prompt has",
    openapi_extra=json_request(InputTokensRequest),
    responses={200: {"model": InputTokens}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def count_input_tokens(request: Request) -> Response:
    return await answer(request, InputTokensRequest, _count)


def _count(
    asked: InputTokensRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(PromptCount(OPENAI, _counted), context.request_id)


def _counted(tokens: int) -> dict[str, Any]:
    return {"object": "response.input_tokens", "input_tokens": tokens}


def _response(
    asked: ResponsesRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    shape = ResponseShape(
        begun(asked, job, "in_progress"),
        names_of(asked.tools or ()),
        shows_reasoning=asked.shows_reasoning,
        with_others=bool(job.sampling.logprobs),
    )
    if not asked.stream:
        return WholeAnswer(ResponseWhole(shape), context.request_id)
    dialect = ResponseStream(shape, resumable=bool(resumption))
    after = resumption.after.seq if resumption else -1
    return StreamAnswer(dialect, context.request_id, after)
