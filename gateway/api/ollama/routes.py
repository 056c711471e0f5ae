"""Ollama's routes. They are there only if `gateway.ollama` says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from contract.config import ModelConfig, names_of
from contract.messages import Job, State
from contract.release import release
from gateway.api.fields import parse
from gateway.api.inference import answer, answer_to, read
from gateway.api.ollama.schemas import (
    OllamaChat,
    OllamaEmbed,
    OllamaEmbedOne,
    OllamaGenerate,
    OllamaGeneration,
    OllamaShow,
)
from gateway.api.ollama.wire import (
    LINES,
    OllamaEmbedding,
    OllamaEmbeddings,
    OllamaLines,
    OllamaLoaded,
    OllamaWhole,
)
from gateway.http.body import read_body
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext, context_of
from gateway.jobs.resumption import Resumption
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.streams.answers import AnswerSink, StreamAnswer, WholeAnswer

#: As Ollama says it of a model that stays.
_NEVER: Final = "2318-12-31T00:00:00Z"
router = APIRouter(prefix="/api", include_in_schema=False)


@router.post("/chat")
async def chat(request: Request) -> Response:
    return await _generation(request, await read(request, OllamaChat))


@router.post("/generate")
async def generate(request: Request) -> Response:
    return await _generation(request, await read(request, OllamaGenerate))


@router.post("/embed")
async def embed(request: Request) -> Response:
    return await answer(request, OllamaEmbed, _vectors)


@router.post("/embeddings")
async def embed_one(request: Request) -> Response:
    """The form that `/embed` has replaced."""
    return await answer(request, OllamaEmbedOne, _vector)


@router.get("/ps")
async def loaded(request: Request) -> JSONResponse:
    """Models that have a worker which is ready. None of them has a time at which it ends."""
    process = process_of(request)
    models = [
        _listed(process, name, config)
        | {"expires_at": _NEVER, "size_vram": 0}
        | {"context_length": process.models.status(model).max_model_len or 0}
        for model, config in process.models.open_to(context_of(request.scope).key).items()
        if process.models.status(model).state is State.READY
        for name in names_of(model, config)
    ]
    return JSONResponse({"models": models})


@router.get("/tags")
async def tags(request: Request) -> JSONResponse:
    process = process_of(request)
    key = context_of(request.scope).key
    models = [
        _listed(process, name, config)
        for model, config in process.models.open_to(key).items()
        for name in names_of(model, config)
    ]
    return JSONResponse({"models": models})


@router.post("/show")
async def show(request: Request) -> Response:
    process, context = process_of(request), context_of(request.scope)
    body = await read_body(request, process.models.limits.max_body_bytes)
    asked = parse(OllamaShow, body, context.ignored)
    found = process.models.find(asked.name, context.key)
    if found is None:
        raise ApiError("model_not_found", f"model '{asked.model}' not found")
    config = process.models.configured[found.model]
    status = process.models.status(found.model)
    sees = ["vision"] if "image" in (status.takes or ()) else []
    shown = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(config),
        "model_info": {"general.architecture": "ew", "ew.context_length": status.max_model_len},
        "capabilities": ["completion", "tools", *sees, *_thinks(config)],
        "modified_at": _started(process),
    }
    return JSONResponse(shown)


@router.get("/version")
async def version() -> JSONResponse:
    return JSONResponse({"version": release()})


def _listed(process: GatewayProcess, name: str, config: ModelConfig) -> dict[str, Any]:
    """Return what clients list. Sizes and digests are of files that ew does not look at."""
    return {
        "name": name,
        "model": name,
        "modified_at": _started(process),
        "size": 0,
        "digest": "",
        "details": _details(config),
    }


def _thinks(config: ModelConfig) -> list[str]:
    return ["thinking"] if config.reasoning_parser not in (None, "none") else []


def _details(config: ModelConfig) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": config.engine,
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": config.quantization or "",
    }


def _started(process: GatewayProcess) -> str:
    return datetime.fromtimestamp(process.started_unix_s, UTC).isoformat()


async def _generation(request: Request, asked: OllamaGeneration) -> Response:
    if not asked.unloads:
        return await answer_to(request, asked, _generated)
    found = process_of(request).models.find(asked.name, context_of(request.scope).key)
    if found is None:
        raise ApiError("model_not_found", f"model '{asked.model}' not found")
    # It stays: other clients may be using it.
    said = OllamaLoaded(
        asked.loading_job("", ""), is_chat=isinstance(asked, OllamaChat), with_thinking=False
    )
    return JSONResponse(said.said("") | {"done": True, "done_reason": "unload"})


def _generated(
    asked: OllamaGeneration, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    how = {"is_chat": isinstance(asked, OllamaChat), "with_thinking": asked.think is not False}
    if asked.asks_nothing:
        return WholeAnswer(OllamaLoaded(job, **how), context.request_id)
    if not asked.is_streamed:
        return WholeAnswer(OllamaWhole(job, **how), context.request_id)
    lines = OllamaLines(job, **how)
    return StreamAnswer(lines, context.request_id, heartbeat=lines.heartbeat(), headers=LINES)


def _vectors(
    asked: OllamaEmbed, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(OllamaEmbeddings(job), context.request_id)


def _vector(
    asked: OllamaEmbedOne, job: Job, context: RequestContext, resumption: Resumption | None
) -> AnswerSink:
    return WholeAnswer(OllamaEmbedding(job), context.request_id)
