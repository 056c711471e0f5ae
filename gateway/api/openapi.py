"""The OpenAPI document: what FastAPI finds by itself, and what routes that read their body by
hand say of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec.json import schema_components
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contract.bus.views.trace import Trace
from contract.supervision.status import RunStatus
from gateway.api.admin.configuration.bodies import ModelSettings
from gateway.api.admin.key_bodies import KeyAddition, KeyChange, KeyRotation
from gateway.api.admin.schemas import LogLineBody
from gateway.api.admin.task_bodies import BenchRequest, ModelRequest
from gateway.api.anthropic.bodies import AnthropicErrorBody, MessageEvent
from gateway.api.anthropic.schemas import CountTokensRequest, MessagesRequest
from gateway.api.batches.bodies import BatchRequest
from gateway.api.native.schemas import (
    Completion,
    DeltaBody,
    ErrorBody,
    InferenceRequest,
    StatusBody,
)
from gateway.api.openai.bodies import ChatCompletionChunk, OpenAIErrorBody
from gateway.api.openai.chat_request import BatchChatRequest, ChatCompletionRequest
from gateway.api.openai.completion_request import CompletionRequest
from gateway.api.pooling.classes import ClassifyRequest, PoolingRequest
from gateway.api.pooling.cohere import CohereEmbedRequest
from gateway.api.pooling.embeddings import EmbeddingRequest
from gateway.api.pooling.scoring import RerankRequest, ScoreRequest
from gateway.api.responses.bodies import ResponseEvent
from gateway.api.responses.schemas import InputTokensRequest, ResponsesRequest
from gateway.api.vllm.tokenizing import DetokenizeRequest, TokenizeRequest

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION: Final = """One gateway in front of several LLM engines.

Every request but the health probes carries an API key, as `X-API-Key` or as
`Authorization: Bearer`. For `/metrics`, `/docs` and `/openapi.json` it may also be the password of
`Authorization: Basic`, and on the listener `gateway.admin_port` it may be left out.

Every answer carries `X-Request-Id` (your own, if it is 1 to 64 of `A-Za-z0-9_-`),
`X-Response-Time` (milliseconds to the answer's first byte) and `Server-Timing` (`queue`: until
a worker took the job; `first`: until its first token). Every error has a machine-readable
`code`; `Retry-After` says when to ask again.

To survive a broken connection, send an `Idempotency-Key`: the job then goes on without you, and
the same request with the same key is answered by the same job for five minutes after it ended.
Without the key a job ends when its client leaves.
"""
_READ_BY_HAND: Final[tuple[type[BaseModel], ...]] = (
    BatchRequest,
    BenchRequest,
    ModelRequest,
    KeyAddition,
    KeyChange,
    KeyRotation,
    LogLineBody,
    ModelSettings,
    InferenceRequest,
    ChatCompletionRequest,
    BatchChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    MessagesRequest,
    CountTokensRequest,
    InputTokensRequest,
    MessageEvent,
    ResponsesRequest,
    ResponseEvent,
    TokenizeRequest,
    DetokenizeRequest,
    RerankRequest,
    ScoreRequest,
    ClassifyRequest,
    PoolingRequest,
    CohereEmbedRequest,
    ChatCompletionChunk,
    Completion,
    DeltaBody,
    ErrorBody,
    OpenAIErrorBody,
    AnthropicErrorBody,
    StatusBody,
)
_REFERENCE: Final = "#/components/schemas/{model}"
_WHY: Final = {
    400: "The request is not valid.",
    401: "There is no API key, or it is unknown, expired or revoked.",
    403: "This key lacks the scope that is named.",
    404: "There is no such thing, or this key may not see it.",
    405: "Another method.",
    408: "The request came too slowly.",
    409: "The supervisor refuses it, and says why.",
    410: "The answer to resume is no longer kept.",
    413: "The body is too large.",
    415: "The body has a content encoding other than gzip.",
    421: "`Host` gives a name that this gateway does not have.",
    422: "A field of the body is wrong.",
    429: "Too many wrong keys.",
    431: "The request's head is too large.",
    500: "Something is broken here.",
    502: "The server behind this one failed.",
    503: "Not at the moment; `Retry-After` says when to ask again.",
    504: "It took too long.",
}
_ALWAYS: Final = (400, 401, 405, 408, 421, 429, 431, 500, 503)
_GENERATING: Final = (*_ALWAYS, 404, 410, 413, 415, 422, 502, 504)


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _errors(body: type[BaseModel], statuses: Iterable[int]) -> Responses:
    """The errors of a route. FastAPI would make a validator of each `model` and status: 800 of
    them, a third of a gateway's start."""
    content = {"application/json": {"schema": _reference(body)}}
    return {
        status: {"description": _WHY[status], "content": content} for status in sorted(statuses)
    }


NATIVE_ERRORS: Final = _errors(ErrorBody, _ALWAYS)
NATIVE_GENERATION_ERRORS: Final = _errors(ErrorBody, _GENERATING)
ADMIN_ERRORS: Final = _errors(ErrorBody, (*_ALWAYS, 403, 404))
ADMIN_CHANGE_ERRORS: Final = _errors(ErrorBody, (*_ALWAYS, 403, 404, 409, 413, 415, 422))
OPENAI_ERRORS: Final = _errors(OpenAIErrorBody, (*_ALWAYS, 404))
OPENAI_GENERATION_ERRORS: Final = _errors(OpenAIErrorBody, set(_GENERATING) - {422})
ANTHROPIC_GENERATION_ERRORS: Final = _errors(AnthropicErrorBody, set(_GENERATING) - {422})
PROBE_ERRORS: Final = _errors(ErrorBody, (400, 405, 408, 431, 500))

IDEMPOTENCY_PARAMETER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the request repeatable: the same key and body get the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
LAST_EVENT_PARAMETER: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Leave out what came already.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,12}(-[0-9a-f]{1,16})?$"},
}
RESUME_PARAMETERS: Final[list[dict[str, Any]]] = [
    IDEMPOTENCY_PARAMETER,
    {
        **LAST_EVENT_PARAMETER,
        "description": "With the first request's `Idempotency-Key`: leave out what came already.",
    },
]


def json_request(form: type[BaseModel], *others: type[BaseModel]) -> dict[str, Any]:
    """The description of a body that is read by hand, in one of some forms."""
    forms = [_reference(each) for each in (form, *others)]
    schema = {"anyOf": forms} if others else forms[0]
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def event_stream(description: str, *events: type[BaseModel]) -> dict[str, Any]:
    """The description of an answer in server-sent events, with the data that they may carry."""
    schema = {"anyOf": [_reference(event) for event in events]}
    return {"description": description, "content": {"text/event-stream": {"schema": schema}}}


NATIVE_STREAM: Final = event_stream(
    "Events without a name carry text; their `id` begins with their number. `done` or `error` "
    "is the last event; `status` says what the job waits for; a comment comes after 10 s of "
    "silence. A request with an `Idempotency-Key` is worked on even if its connection breaks: "
    "send it again, with the same key and `Last-Event-ID`, for the rest of its answer.",
    DeltaBody,
    Completion,
    ErrorBody,
    StatusBody,
)


HOST_STATUS: Final[dict[str, Any]] = {
    "description": "The status document. Fields that are not known are null.",
    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="RunStatus")}}},
}
TRACE: Final[dict[str, Any]] = {
    "description": "The job's life so far.",
    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Trace")}}},
}
HOST_STATUS_STREAM: Final[dict[str, Any]] = {
    "description": "`status` has the whole document. Each `change` has the fields at its top that "
    "are new since then. The stream has no end, but for that of its gateway process or key.",
    "content": {"text/event-stream": {"schema": {"$ref": _REFERENCE.format(model="RunStatus")}}},
}
LOG_STREAM: Final = event_stream(
    "Each event `lines` has `lines`, and how many were `left_out` before them.", LogLineBody
)


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    found = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes
    )
    _, by_hand = models_json_schema(
        [(model, "validation") for model in _READ_BY_HAND], ref_template=_REFERENCE
    )
    components = found.setdefault("components", {})
    _, by_structs = schema_components(
        [RunStatus, Trace], ref_template=_REFERENCE.replace("model", "name")
    )
    components["schemas"] = {**by_structs, **by_hand["$defs"], **components.get("schemas", {})}
    components["securitySchemes"] = {
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    found["security"] = [{"X-API-Key": []}, {"Bearer": []}]
    return found
