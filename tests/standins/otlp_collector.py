"""A collector of traces: takes OTLP over HTTP as its protocol buffers say, and shows what came.

`python -m tests.standins.otlp_collector PORT` prints each trace as a tree.
"""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class CollectedSpan:
    """A span as it came; `raw` has its times and kind."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    raw: Span
    children: list[CollectedSpan] = field(default_factory=list)

    @property
    def links(self) -> list[str]:
        """The ids of the spans that it links to."""
        return [link.span_id.hex() for link in self.raw.links]

    @property
    def is_error(self) -> bool:
        return self.raw.status.code == 2

    def all(self, name: str) -> list[CollectedSpan]:
        """Return its children of this name, in order."""
        return [child for child in self.children if child.name == name]

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Yield it and all below it, as text."""
        took_ms = (self.raw.end_time_unix_nano - self.raw.start_time_unix_nano) / 1e6
        error = " ERROR" if self.is_error else ""
        yield f"{'  ' * depth}{self.name} {took_ms:.1f} ms{error} {self.attributes}"
        for child in self.children:
            yield from child.lines(depth + 1)


class Collector:
    """Spans by the traces that they are in. To be read from any thread."""

    def __init__(self) -> None:
        self.spans: dict[str, CollectedSpan] = {}
        #: Spans that came more than once.
        self.repeated: list[str] = []
        self.bodies: list[bytes] = []
        self.url = ""
        #: Answers to be given first, without taking anything.
        self.statuses: list[int] = []

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _read(batch.resource.attributes)
            for scope in batch.scope_spans:
                for raw in scope.spans:
                    ids = (raw.trace_id.hex(), raw.span_id.hex(), raw.parent_span_id.hex())
                    span = CollectedSpan(raw.name, *ids, _read(raw.attributes), resource, raw)
                    if span.span_id in self.spans:
                        self.repeated.append(span.name)
                    self.spans[span.span_id] = span

    def tree(self, trace_id: str) -> list[CollectedSpan]:
        """Return the spans of a trace whose parents are not here, each with what is below it."""
        mine = sorted(
            (span for span in self.spans.copy().values() if span.trace_id == trace_id),
            key=lambda span: (span.raw.start_time_unix_nano, -span.raw.end_time_unix_nano),
        )
        by_id = {span.span_id: span for span in mine}
        for span in mine:
            span.children = [each for each in mine if each.parent_id == span.span_id]
        return [span for span in mine if span.parent_id not in by_id]


def _read(attributes: Iterator[KeyValue] | Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Run a collector on this port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces", self.path
            assert self.headers["Content-Type"] == "application/x-protobuf"
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = collector.statuses.pop(0) if collector.statuses else 200
            if status == 200:
                collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    with collecting(int(sys.argv[1])) as collector:
        for _ in sys.stdin:
            for trace_id in {span.trace_id for span in collector.spans.copy().values()}:
                lines = [line for root in collector.tree(trace_id) for line in root.lines()]
                sys.stdout.write("\n".join([trace_id, *lines, ""]))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
