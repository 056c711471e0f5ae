"""The beginnings of spans."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from starlette.types import Scope

from contract.config import TracingConfig
from contract.figures import SpanFigures
from contract.messages import Job
from contract.process.host_name import host_name
from contract.release import release
from gateway.tracing.attributes import of_job, operation_of
from gateway.tracing.job_trace import JobTrace
from gateway.tracing.otlp import SpanSource
from gateway.tracing.request_trace import RequestTrace
from gateway.tracing.settings import TracingSettings, tracing_settings
from gateway.tracing.span import (
    AttributeValue,
    SpanContext,
    SpanKind,
    SpanMaker,
    context_in,
    read_context,
)

if TYPE_CHECKING:
    from gateway.tracing.exporter import SpanExporter

log = logging.getLogger(__name__)
#: Of the attributes that are set by their names here.
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
_READING: Final = ("GET", "HEAD", "OPTIONS")


class Tracer:
    """Begins the traces of one gateway process."""

    def __init__(self, settings: TracingSettings, exporter: SpanExporter) -> None:
        self._settings = settings
        self._exporter = exporter

    @property
    def figures(self) -> SpanFigures:
        """The fates of its spans so far."""
        return self._exporter.figures

    def start(self) -> None:
        """Begin to send."""
        self._exporter.start()

    async def close(self) -> None:
        """Send what is left, if a collector takes it soon."""
        await self._exporter.close()

    def request(self, scope: Scope, request_id: str) -> RequestTrace | None:
        """Begin the span of a request. Those that only read have none, unless their client traces
        them: probes, scrapes and open consoles would be most of what is stored."""
        method: str = scope["method"]
        parent = context_in(scope["headers"])
        if parent is None and method in _READING:
            return None
        about: dict[str, AttributeValue] = {
            "http.request.method": method,
            "url.scheme": scope.get("scheme", "http"),
            "url.path": scope["path"],
            "network.protocol.version": scope.get("http_version", "1.1"),
            "ew.request.id": request_id,
        }
        spans = self._spans()
        heeded = self._heeded(parent)
        span = spans.begin(method, time.monotonic(), heeded, about, SpanKind.SERVER)
        return RequestTrace(spans, span)

    def job(
        self, job: Job, request: RequestTrace | None, began: float, *, is_stream: bool
    ) -> JobTrace:
        """Begin the span of a job: part of its request's; or, where no client waits for it, of the
        trace that it carries."""
        name = f"{operation_of(job)} {job.moved_from or job.model}"
        about = of_job(job, is_stream=is_stream)
        if request is not None:
            span = request.spans.begin(name, began, request.span, about, SpanKind.CLIENT)
            return JobTrace(request.spans, span, began)
        spans, carried = self._spans(), job.trace
        parent = None if carried is None else read_context(carried.traceparent, carried.tracestate)
        span = spans.begin(name, began, parent, about, SpanKind.CLIENT)
        return JobTrace(spans, span, began)

    def _spans(self) -> SpanMaker:
        return SpanMaker(self._exporter.take, self._settings.samples)

    def _heeded(self, parent: SpanContext | None) -> SpanContext | None:
        """Return a client's span, kept or not as the sampler says."""
        if parent is None or self._settings.heeds_parents:
            return parent
        return parent._replace(is_sampled=self._settings.samples(parent.trace_id))


def open_tracer(config: TracingConfig, process: str) -> Tracer | None:
    """Return the tracer of a gateway process, if the configuration or OpenTelemetry's variables ask
    for traces. What is asked for and cannot be had is logged: requests are served without."""
    try:
        settings = tracing_settings(config)
        return None if settings is None else _tracer(settings, process)
    except ValueError as error:
        log.error("there are no traces: %s", error)
        return None


def _tracer(settings: TracingSettings, process: str) -> Tracer:
    # A gateway without traces needs no client of HTTP to start.
    from gateway.tracing.exporter import SpanExporter

    who = {
        "service.name": "ew",
        "service.version": release(),
        "service.instance.id": process,
        "host.name": host_name(),
    }
    source = SpanSource(release(), {**who, **settings.resource}, _SCHEMA)
    return Tracer(settings, SpanExporter(settings, source))
