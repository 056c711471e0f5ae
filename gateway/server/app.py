"""The ASGI application of one gateway process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Lifespan, Scope

from contract.logs.file import ACCESS
from contract.paths import log_path
from contract.process.logs import configure_logging
from contract.process.tasks import cancel_and_wait
from gateway.api import openapi
from gateway.api.admin import routes as admin_routes
from gateway.api.anthropic import routes as anthropic_routes
from gateway.api.audio import routes as speech
from gateway.api.batches import files as batch_files
from gateway.api.batches import routes as batch_routes
from gateway.api.batches.endpoints import ENDPOINTS
from gateway.api.native import jobs, routes, usage
from gateway.api.ollama import routes as ollama_routes
from gateway.api.openai import routes as openai_routes
from gateway.api.pooling import routes as pooling_routes
from gateway.api.responses import routes as responses_routes
from gateway.api.vllm import invocations
from gateway.api.vllm import routes as vllm_routes
from gateway.batches.batch import BatchStore
from gateway.batches.file_store import FileStore
from gateway.batches.runner import BatchRunner
from gateway.http.error_answers import answer_error, dialect_of
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import RequestContext, RequestContextMiddleware, context_of
from gateway.http.peer import DEPARTURES_STATE, Departures
from gateway.lifecycle.process import GatewayProcess
from gateway.lifecycle.settings import ProcessSettings
from gateway.server import console, docs, health
from gateway.server.access_log import AccessLog
from gateway.server.direct_routes import DirectRoutes
from gateway.server.http_guard import CONNECTIONS_STATE, DRAIN_STATE
from gateway.server.open_files import most_connections
from gateway.tracing.request_trace import RequestEnd
from gateway.tracing.tracer import Tracer, open_tracer

log = logging.getLogger(__name__)
_ROUTERS: Final = (
    routes.router,
    jobs.router,
    usage.router,
    admin_routes.router,
    openai_routes.router,
    batch_files.router,
    batch_routes.router,
    anthropic_routes.router,
    responses_routes.router,
    openai_routes.unversioned,
    vllm_routes.router,
    invocations.router,
    pooling_routes.router,
    speech.router,
    health.router,
    docs.router,
    console.router,
)
_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
#: Keys come in headers that pages set themselves: no cookie or stored password is let through.
_CORS: Final[dict[str, Any]] = {
    "allow_methods": ["GET", "HEAD", "POST", "PATCH", "DELETE"],
    "allow_headers": ["*"],
    "expose_headers": [
        "X-Request-Id",
        "X-Response-Time",
        "X-Ignored-Fields",
        "Retry-After",
        "X-EW-Model",
        "X-EW-Moved-By",
    ],
}


def from_environment() -> RequestContextMiddleware:
    """Return the application; uvicorn calls this in each of its processes."""
    settings = ProcessSettings.from_environment()
    logs = settings.config.logs
    configure_logging(settings.log_name, as_json=logs.format == "json", to_journal=logs.journal)
    return create_app(settings)


def create_app(settings: ProcessSettings) -> RequestContextMiddleware:
    """The application; its process starts and stops with its lifespan."""
    process = GatewayProcess(settings)
    files = FileStore(settings.state_dir / "files", settings.config.files)
    batches = BatchStore(settings.state_dir / "batches")
    runner = BatchRunner(process, files, batches, ENDPOINTS)
    access = AccessLog(log_path(ACCESS), settings.log_name, settings.config.logs)
    tracer = process.admission.tracer = open_tracer(settings.config.tracing, process.name)
    app = _routed(process, lambda _: _lifespan(process, runner, access, tracer))
    app.state.process, app.state.files, app.state.batches = process, files, batches
    return RequestContextMiddleware(
        _direct(app, process),
        lambda *ended: _note(process, access, *ended),
        partial(_trace, tracer) if tracer is not None else None,
    )


@asynccontextmanager
async def _lifespan(
    process: GatewayProcess, runner: BatchRunner, access: AccessLog, tracer: Tracer | None
) -> AsyncIterator[dict[str, Any]]:
    await process.start()
    if tracer is not None:
        process.metrics.spans = tracer.figures
        tracer.start()
    running = asyncio.create_task(runner.run())
    yield {
        DRAIN_STATE: process.drain,
        CONNECTIONS_STATE: most_connections(process.config.gateway.max_connections),
        DEPARTURES_STATE: Departures(asyncio.get_running_loop()),
    }
    await cancel_and_wait([running])
    await process.stop()
    access.close()
    if tracer is not None:
        await tracer.close()


def _routed(process: GatewayProcess, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """Return the application of FastAPI, with all routes and the document of them."""
    app = FastAPI(
        title="ew",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Its spans are not those of `gateway/tracing` (docs/traces.md).
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        dependencies=[Depends(process.authenticator.check)],
        exception_handlers={
            ApiError: _answer_api_error,
            HTTPException: _answer_http_exception,
            RequestValidationError: _answer_bad_parameter,
            Exception: _answer_bug,
        },
    )
    app.openapi = lambda: _document_once(app)  # type: ignore[method-assign]
    for router in _routers(process):
        app.include_router(router)
    return app


def _routers(process: GatewayProcess) -> list[APIRouter]:
    return [*_ROUTERS, *([ollama_routes.router] if process.config.gateway.ollama else [])]


def _direct(app: FastAPI, process: GatewayProcess) -> ASGIApp:
    """Return the application with a shorter way to its usual routes, and CORS if it is allowed."""
    served: ASGIApp = DirectRoutes(
        app,
        _routers(process),
        process.authenticator.check,
        on_api_error=_answer_api_error,
        on_bug=_answer_bug,
    )
    origins = process.config.gateway.allowed_origins
    return CORSMiddleware(served, allow_origins=origins, **_CORS) if origins else served


def _document_once(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = openapi.document(app)
    return app.openapi_schema


async def _answer_api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    context = context_of(request.scope)
    answer = answer_error(error, context.request_id, dialect_of(request.scope["path"]))
    context.error = error.code
    _process(request).metrics.count_failure(context.model, error.code)
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.headers
    return response


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Answer requests that Starlette itself refuses: no such path, or another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = _HTTP_CODES.get(status, "internal_error")
    path = request.scope["path"]
    if status == 405:
        message = f"{request.method} is not possible at {path}"
    elif path.endswith("/") and path.strip("/"):
        message = f"nothing is at {path}; paths have no slash at their end"
    else:
        message = f"nothing is at {path}"
    headers = getattr(error, "headers", None)
    return await _answer_api_error(request, ApiError(code, message, headers=headers))


async def _answer_bad_parameter(request: Request, error: Exception) -> Response:
    """A parameter of the query or path is not what it must be: the first is named."""
    problem = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    # Of a list, the place in it names nothing.
    field = next(part for part in reversed(problem["loc"]) if isinstance(part, str))
    return await _answer_api_error(request, invalid(field, problem["msg"].lower()))


async def _answer_bug(request: Request, error: Exception) -> Response:
    """The traceback is logged by the server; the client learns nothing of it."""
    return await _answer_api_error(request, ApiError("internal_error", "something broke here"))


def _process(request: Request) -> GatewayProcess:
    process: GatewayProcess = request.app.state.process
    return process


def _note(
    process: GatewayProcess,
    access: AccessLog,
    scope: Scope,
    context: RequestContext,
    status: int,
) -> None:
    """Take note of the end of a request."""
    access.note(scope, context, status)
    route = getattr(scope.get("route"), "path", "")
    key_id = context.key.id if context.key else ""
    process.metrics.count_request(route or "other", status, context.model, key_id)
    if context.trace is not None:
        ended = RequestEnd(route, status, context.error)
        context.trace.end(ended, key_id, context.model, time.monotonic())


def _trace(tracer: Tracer, scope: Scope, context: RequestContext) -> None:
    context.trace = tracer.request(scope, context.request_id)
