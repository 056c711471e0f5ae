"""ew's own API."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from contract.config import Named, names_of
from contract.messages import Job
from gateway.api.inference import answer
from gateway.api.native.schemas import (
    Completion,
    DeltaBody,
    ErrorBody,
    InferenceAnswer,
    InferenceRequest,
    ModelBody,
    ModelsBody,
    StatusBody,
)
from gateway.api.native.wire import NativeStream, NativeWhole
from gateway.api.openapi import (
    NATIVE_ERRORS,
    NATIVE_GENERATION_ERRORS,
    RESUME_PARAMETERS,
    event_stream,
    json_request,
)
from gateway.http.headers import RequestContext, context_of
from gateway.jobs.models import Models
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import process_of
from gateway.streams.answers import AnswerChoice, StreamAnswer, WholeAnswer

router = APIRouter(prefix="/api/v1")
_REQUEST: Final[dict[str, Any]] = {
    **json_request(InferenceRequest),
    "parameters": RESUME_PARAMETERS,
}
_STREAM: Final = event_stream(
    "Events without a name carry text; their `id` begins with their number. `done` or `error` "
    "is the last event; `status` says what the job waits for; a comment comes after 10 s of "
    "silence. A request with an `Idempotency-Key` is worked on even if its connection breaks: "
    "send it again, with the same key and `Last-Event-ID`, for the rest of its answer.",
    DeltaBody,
    Completion,
    ErrorBody,
    StatusBody,
)


@router.post(
    "/inference/stream",
    summary="Ask a model; the answer comes as it is generated",
    tags=["inference"],
    openapi_extra=_REQUEST,
    responses={200: _STREAM, **NATIVE_GENERATION_ERRORS},
    response_class=Response,
)
async def stream_inference(request: Request) -> Response:
    return await answer(request, InferenceRequest, _stream)


@router.post(
    "/inference",
    summary="Ask a model; the answer comes when it is complete",
    tags=["inference"],
    openapi_extra=_REQUEST,
    responses={200: {"model": InferenceAnswer}, **NATIVE_GENERATION_ERRORS},
    response_class=Response,
)
async def infer(request: Request) -> Response:
    return await answer(request, InferenceRequest, _whole)


@router.get(
    "/models",
    summary="The models that this key may use",
    tags=["models"],
    responses=NATIVE_ERRORS,
)
async def list_models(request: Request) -> ModelsBody:
    known, key = process_of(request).models, context_of(request.scope).key
    models = [_model(known, Named(model)) for model in known.open_to(key)]
    return ModelsBody(models=models + [_model(known, each) for each in known.adapters_open_to(key)])


def _model(known: Models, named: Named) -> ModelBody:
    """An adapter is served by the workers of its model."""
    config, status = known.configured[named.model], known.status(named.model)
    condition = known.condition(named.model)
    return ModelBody(
        id=named.adapter or named.model,
        aliases=[] if named.adapter else names_of(named.model, config)[1:],
        parent=named.model if named.adapter else None,
        state=condition.state,
        engine=config.engine,
        max_model_len=status.max_model_len,
        workers=len(status.workers),
        running=sum(worker.running for worker in status.workers),
        waiting=status.waiting,
        on_demand=config.load == "on-demand",
        stage=condition.stage or None,
    )


def _stream(
    asked: InferenceRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> StreamAnswer:
    request_id = context.request_id
    after = resumption.after.seq if resumption else -1
    return StreamAnswer(NativeStream(job, request_id), request_id, after)


def _whole(
    asked: InferenceRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> WholeAnswer[AnswerChoice]:
    return WholeAnswer(NativeWhole(job, context.request_id), context.request_id)
