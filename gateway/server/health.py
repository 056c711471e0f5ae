"""Probes and metrics, for operators and their tools."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from contract.bus.heartbeats import GATEWAYS, Heartbeats, read_beats
from contract.gateway_beat import GatewayBeat
from contract.release import release
from gateway.api.native.schemas import LiveBody, ReadyBody, VersionBody
from gateway.api.openapi import NATIVE_ERRORS, PROBE_ERRORS
from gateway.lifecycle.process import GatewayProcess, process_of
from gateway.server.metrics.exposition import MetricSources, exposition, text_of
from gateway.server.metrics.vllm_names import vllm_families

router = APIRouter(tags=["operation"])
_NO_KEY: Final[dict[str, Any]] = {"security": []}
_decode_gateway = msgspec.msgpack.Decoder(GatewayBeat).decode
_METRICS_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    **NATIVE_ERRORS,
}
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/health/live",
    summary="The process runs",
    openapi_extra=_NO_KEY,
    responses=PROBE_ERRORS,
)
async def live() -> LiveBody:
    return LiveBody()


# As routers and platforms ask any server of models.
@router.get("/health", include_in_schema=False)
@router.get("/ping", include_in_schema=False)
@router.post("/ping", include_in_schema=False)
@router.get(
    "/health/ready",
    summary="A request would be answered: the queue is there, and at least one model",
    openapi_extra=_NO_KEY,
    responses={**PROBE_ERRORS, 503: {"model": ReadyBody, "description": "Not at the moment."}},
)
async def ready(request: Request, response: Response) -> ReadyBody:
    reasons = _reasons(process_of(request))
    response.status_code = 503 if reasons else 200
    return ReadyBody(status="not_ready" if reasons else "ready", reasons=reasons)


@router.get("/version", summary="Which release of ew this is", responses=NATIVE_ERRORS)
async def version() -> VersionBody:
    return VersionBody(version=release())


@router.get(
    "/metrics",
    summary="Figures for Prometheus, of all processes of this gateway and of all workers",
    response_class=Response,
    responses=_METRICS_RESPONSES,
)
async def metrics(request: Request) -> Response:
    return _metrics(exposition(await _sources(process_of(request))))


@router.get(
    "/metrics/vllm",
    summary="Figures of every model's engine and answers, by vLLM's names",
    response_class=Response,
    responses=_METRICS_RESPONSES,
)
async def metrics_by_vllm_names(request: Request) -> Response:
    process = process_of(request)
    configured = process.models.configured
    return _metrics(text_of(vllm_families(await _sources(process), configured)))


def _metrics(text: str) -> Response:
    return Response(text, headers={"content-type": _TEXT})


async def _sources(process: GatewayProcess) -> MetricSources:
    models = process.models
    statuses = {model: models.status(model) for model in models.configured}
    return MetricSources(await _published(process), statuses, models.hosts, process.link.is_up)


def _reasons(process: GatewayProcess) -> list[str]:
    """Why a request would not be answered."""
    process.keys.refresh()
    checks = {
        "the gateway is stopping": process.dispatcher.draining,
        "Redis does not answer": not process.link.is_up or process.dispatcher.last is None,
        "the key file cannot be used": bool(process.keys.problem),
        _no_model(process): not process.models.any_served(),
    }
    return [reason for reason, holds in checks.items() if holds]


def _no_model(process: GatewayProcess) -> str:
    """Return that no model is ready, with what their workers are at: whoever asks has no key, and
    is told no names."""
    models = process.models
    beats = [beat for model in models.configured for beat in models.status(model).workers]
    stages = sorted({beat.stage for beat in beats if beat.stage})
    return f"no model is ready: {', '.join(stages)}" if stages else "no model is ready"


async def _published(process: GatewayProcess) -> list[GatewayBeat]:
    """Return the counters of this gateway's processes, as of their last heartbeats: the same
    from whichever process answers, so that no counter ever seems to go back."""
    try:
        beats = await Heartbeats(process.db, GATEWAYS).alive()
    except (RedisError, OSError):
        return [process.heartbeat_sender.last]
    return [each for each in read_beats(beats, _decode_gateway) if process.owns(each)]
