"""Routes of pooling models, as vLLM's server and Cohere's API have them."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from contract.messages import Job
from gateway.api.fields import GenerationBody
from gateway.api.inference import AnswerMaker, answer
from gateway.api.openapi import OPENAI_GENERATION_ERRORS, json_request
from gateway.api.pooling.classes import (
    Classes,
    ClassesWhole,
    ClassifyRequest,
    PooledBody,
    PooledWhole,
    PoolingRequest,
)
from gateway.api.pooling.cohere import CohereEmbeddings, CohereEmbedRequest, CohereWhole
from gateway.api.pooling.scoring import (
    Reranked,
    RerankedWhole,
    RerankRequest,
    ScoreRequest,
    Scores,
    ScoresWhole,
)
from gateway.http.headers import RequestContext
from gateway.jobs.resumption import Resumption
from gateway.streams.answers import AnswerSink, WholeAnswer

router = APIRouter(tags=["vllm"])


def make_ranking(
    asked: RerankRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(RerankedWhole(job, asked), context.request_id)


def make_scores(
    asked: ScoreRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(ScoresWhole(job), context.request_id)


def make_classes(
    asked: ClassifyRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(ClassesWhole(job), context.request_id)


def _pooled(
    asked: PoolingRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    as_base64 = asked.encoding_format == "base64"
    return WholeAnswer(PooledWhole(job, as_base64=as_base64), context.request_id)


def _cohere(
    asked: CohereEmbedRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(CohereWhole(job, asked), context.request_id)


def _add(
    paths: tuple[str, ...],
    summary: str,
    form: type[GenerationBody],
    make: AnswerMaker[Any],
    body: type[BaseModel],
) -> None:
    """Add a route at several paths; the first of them is in the description."""

    async def ask(request: Request) -> Response:
        return await answer(request, form, make)

    for path in paths:
        router.add_api_route(
            path,
            ask,
            methods=["POST"],
            summary=summary,
            openapi_extra=json_request(form),
            responses={200: {"model": body}, **OPENAI_GENERATION_ERRORS},
            response_class=Response,
            include_in_schema=path == paths[0],
        )


_RERANK: Final = "Documents by their relevance to a query"
_add(("/rerank", "/v1/rerank", "/v2/rerank"), _RERANK, RerankRequest, make_ranking, Reranked)
_SCORE: Final = "How relevant texts are to others"
_add(("/score", "/v1/score", "/v2/score"), _SCORE, ScoreRequest, make_scores, Scores)
_CLASSIFY: Final = "How probable the classes of a model are"
_add(("/classify", "/v1/classify"), _CLASSIFY, ClassifyRequest, make_classes, Classes)
_POOLING: Final = "What a pooling model makes of texts"
_add(("/pooling", "/v1/pooling"), _POOLING, PoolingRequest, _pooled, PooledBody)
_add(("/v2/embed",), "Embeddings, as Cohere", CohereEmbedRequest, _cohere, CohereEmbeddings)
