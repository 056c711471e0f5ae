"""Routes that vLLM's server has beside OpenAI's, at the root."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from contract.messages import Job
from gateway.api.inference import answer
from gateway.api.openapi import OPENAI_GENERATION_ERRORS, json_request
from gateway.api.vllm.tokenizing import (
    Detokenized,
    DetokenizeRequest,
    TextOfTokensWhole,
    Tokenized,
    TokenizeRequest,
    TokensWhole,
)
from gateway.http.headers import RequestContext
from gateway.jobs.models import Models
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import process_of
from gateway.streams.answers import AnswerSink, WholeAnswer

router = APIRouter(tags=["vllm"])


@router.post(
    "/tokenize",
    summary="The tokens of a prompt, or of a chat",
    openapi_extra=json_request(TokenizeRequest),
    responses={200: {"model": Tokenized}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def tokenize(request: Request) -> Response:
    return await answer(request, TokenizeRequest, partial(_tokens, process_of(request).models))


@router.post(
    "/detokenize",
    summary="The text of tokens",
    openapi_extra=json_request(DetokenizeRequest),
    responses={200: {"model": Detokenized}, **OPENAI_GENERATION_ERRORS},
    response_class=Response,
)
async def detokenize(request: Request) -> Response:
    return await answer(request, DetokenizeRequest, _text)


def _tokens(
    models: Models,
    asked: TokenizeRequest,
    job: Job,
    context: RequestContext,
    resumption: Resumption | None,
) -> AnswerSink:
    longest = models.status(context.model).max_model_len
    dialect = TokensWhole(longest, names=bool(asked.return_token_strs))
    return WholeAnswer(dialect, context.request_id)


def _text(
    asked: DetokenizeRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(TextOfTokensWhole(), context.request_id)
