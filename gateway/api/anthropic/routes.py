"""Anthropic's API, as its official clients and Claude Code use it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from contract.messages import Job
from gateway.api.anthropic.bodies import AnsweredMessage, CountedTokens, MessageEvent
from gateway.api.anthropic.message import MessageWhole
from gateway.api.anthropic.schemas import CountTokensRequest, MessagesRequest
from gateway.api.anthropic.wire import PING, MessageStream
from gateway.api.inference import answer
from gateway.api.openapi import (
    ANTHROPIC_GENERATION_ERRORS,
    RESUME_PARAMETERS,
    event_stream,
    json_request,
)
from gateway.api.prompt_count import PromptCount
from gateway.http.error_answers import ANTHROPIC
from gateway.http.headers import RequestContext
from gateway.jobs.resumption import Resumption
from gateway.streams.answers import AnswerSink, StreamAnswer, WholeAnswer

router = APIRouter(prefix="/v1/messages", tags=["anthropic"])
_ENDING: Final = (
    "With `stream`: events in Anthropic's order, the last of which is `message_stop` or `error`. "
    "With an `Idempotency-Key` they have ids; send the request again, with `Last-Event-ID`, for "
    "the rest."
)


@router.post(
    "",
    summary="Message",
    openapi_extra={**json_request(MessagesRequest), "parameters": RESUME_PARAMETERS},
    responses={
        200: {"model": AnsweredMessage, **event_stream(_ENDING, MessageEvent)},
        **ANTHROPIC_GENERATION_ERRORS,
    },
    response_class=Response,
)
async def create_message(request: Request) -> Response:
    return await answer(request, MessagesRequest, _message)


@router.post(
    "/count_tokens",
    summary="How many tokens a message's prompt has",
    openapi_extra=json_request(CountTokensRequest),
    responses={200: {"model": CountedTokens}, **ANTHROPIC_GENERATION_ERRORS},
    response_class=Response,
)
async def count_tokens(request: Request) -> Response:
    return await answer(request, CountTokensRequest, _count)


def _count(
    asked: CountTokensRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(PromptCount(ANTHROPIC, _counted), context.request_id)


def _counted(tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": tokens,
        "context_management": {"original_input_tokens": tokens},
    }


def _message(
    asked: MessagesRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    if not asked.stream:
        return WholeAnswer(MessageWhole(job), context.request_id)
    dialect = MessageStream(job, context.request_id, numbered=bool(resumption))
    after = resumption.after.seq if resumption else -1
    return StreamAnswer(dialect, context.request_id, after, heartbeat=PING)
