"""The span of one HTTP request."""

from __future__ import annotations

from typing import NamedTuple

from contract.asked import TraceContext
from gateway.tracing.job_trace import NO_FAULTS
from gateway.tracing.span import Span, SpanMaker


class RequestEnd(NamedTuple):
    """How a request ended: its route, the status that was sent (0: none), the error's code."""

    route: str
    status: int
    error: str


class RequestTrace:
    """A request's span, from its head to the last byte of its answer."""

    def __init__(self, spans: SpanMaker, span: Span) -> None:
        self.spans = spans
        self.span = span

    @property
    def trace_id(self) -> str:
        return self.span.context.trace_id.hex()

    @property
    def context(self) -> TraceContext:
        """The request's span, for a job that goes on without it."""
        return self.span.context.carried()

    def end(self, ended: RequestEnd, key_id: str, model: str, now: float) -> None:
        """The answer is over. A client that has left, or asked for what cannot be, is no fault of
        the server's."""
        span, known = self.span, self.span.attributes
        if ended.route:
            span.name = f"{span.name} {ended.route}"
            known["http.route"] = ended.route
        if ended.status:
            known["http.response.status_code"] = ended.status
        if key_id:
            known["ew.key.id"] = key_id
        if model:
            known["gen_ai.request.model"] = model
        if ended.error in NO_FAULTS or not (ended.status or ended.error):
            known["ew.end"] = ended.error or "client_left"
        elif ended.status >= 500 or (ended.error and ended.status < 400):
            # An answer that fails after its head was sent keeps the head's status.
            span.fail(ended.error or str(ended.status))
        elif ended.error:
            known["error.type"] = ended.error
        self.spans.end(span, now)
