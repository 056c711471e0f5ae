"""The one route that SageMaker knows: a request's body tells which API it is of, as in vLLM."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from gateway.api.fields import GenerationBody
from gateway.api.inference import AnswerMaker, answer_to, body_of, understood
from gateway.api.openai.bodies import ChatCompletion, ChatCompletionChunk, TextCompletion
from gateway.api.openai.chat_request import ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.openai.routes import make_chat, make_text, make_vectors
from gateway.api.openapi import OPENAI_GENERATION_ERRORS, event_stream, json_request
from gateway.api.pooling.embeddings import EmbeddingRequest, Embeddings
from gateway.api.pooling.routes import make_ranking
from gateway.api.pooling.scoring import Reranked, RerankRequest
from gateway.http.errors import ApiError

router = APIRouter(tags=["vllm"])
#: The field that only bodies of that API have.
_BY_FIELD: Final[dict[str, tuple[type[GenerationBody], AnswerMaker[Any]]]] = {
    "messages": (ChatCompletionRequest, make_chat),
    "prompt": (CompletionRequest, make_text),
    "documents": (RerankRequest, make_ranking),
    "input": (EmbeddingRequest, make_vectors),
}


@router.post(
    "/invocations",
    summary="A chat, a completion, a ranking or embeddings, as the body says (SageMaker)",
    responses={
        200: {
            "model": ChatCompletion | TextCompletion | Reranked | Embeddings,
            **event_stream("With `stream`: chunks.", ChatCompletionChunk, TextCompletion),
        },
        **OPENAI_GENERATION_ERRORS,
    },
    openapi_extra=json_request(*(form for form, _ in _BY_FIELD.values())),
    response_class=Response,
)
async def invoke(request: Request) -> Response:
    body = await body_of(request)
    form, make = _api_of(body)
    return await answer_to(request, understood(request, form, body), make)


def _api_of(body: bytes) -> tuple[type[GenerationBody], AnswerMaker[Any]]:
    """Raises `ApiError` if the body is of none of these APIs."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError("invalid_request", f"the body is no JSON: {error}") from None
    fields = asked if isinstance(asked, dict) else {}
    for field, api in _BY_FIELD.items():
        if field in fields:
            return api
    names = ", ".join(f"`{field}`" for field in _BY_FIELD)
    raise ApiError("invalid_request", f"the body has none of {names}")
