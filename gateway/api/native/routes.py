"""ew's own API."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from contract.config import Named, names_of
from contract.messages import Job
from gateway.api.inference import answer_to, read
from gateway.api.native.job_bodies import JobBody
from gateway.api.native.jobs import create_job
from gateway.api.native.schemas import (
    InferenceAnswer,
    InferenceRequest,
    ModelBody,
    ModelsBody,
)
from gateway.api.native.wire import NativeStream, NativeWhole
from gateway.api.openapi import (
    NATIVE_ERRORS,
    NATIVE_GENERATION_ERRORS,
    NATIVE_STREAM,
    RESUME_PARAMETERS,
    json_request,
)
from gateway.http.errors import invalid
from gateway.http.headers import RequestContext, context_of
from gateway.jobs.models import Models
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import process_of
from gateway.streams.answers import StreamAnswer, WholeAnswer
from gateway.streams.dialects import AnswerChoice

router = APIRouter(prefix="/api/v1")
_REQUEST: Final[dict[str, Any]] = {
    **json_request(InferenceRequest),
    "parameters": RESUME_PARAMETERS,
}


@router.post(
    "/inference/stream",
    summary="Ask a model; the answer comes as it is generated",
    tags=["inference"],
    openapi_extra=_REQUEST,
    responses={200: NATIVE_STREAM, **NATIVE_GENERATION_ERRORS},
    response_class=Response,
)
async def stream_inference(request: Request) -> Response:
    asked = await read(request, InferenceRequest)
    if asked.background:
        raise invalid("background", "a job's stream is at `/api/v1/jobs/{id}/stream`")
    _refuse_webhook(asked)
    return await answer_to(request, asked, _stream)


@router.post(
    "/inference",
    summary="Ask a model; the answer comes when it is complete",
    tags=["inference"],
    openapi_extra=_REQUEST,
    responses={
        200: {"model": InferenceAnswer},
        202: {"model": JobBody, "description": "With `background`: the job."},
        **NATIVE_GENERATION_ERRORS,
    },
    response_class=Response,
)
async def infer(request: Request) -> Response:
    asked = await read(request, InferenceRequest)
    if asked.background:
        return await create_job(request, asked)
    _refuse_webhook(asked)
    return await answer_to(request, asked, _whole)


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


def _refuse_webhook(asked: InferenceRequest) -> None:
    if asked.webhook is not None:
        raise invalid("webhook", "needs `background`")


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
        fallback=list(config.fallback.to) if config.fallback and not named.adapter else [],
        split=config.split.to if config.split and not named.adapter else {},
    )


def _stream(
    asked: InferenceRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> StreamAnswer:
    request_id = context.request_id
    after = resumption.after.seq if resumption else -1
    return StreamAnswer(NativeStream(job.model, request_id), request_id, after)


def _whole(
    asked: InferenceRequest, job: Job, context: RequestContext, resumption: Resumption | None
) -> WholeAnswer[AnswerChoice]:
    return WholeAnswer(NativeWhole(job.model, context.request_id), context.request_id)
