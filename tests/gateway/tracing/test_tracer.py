"""The set-up of traces: what is asked for and by whom, a collector that is away, and nothing at all
where traces are off."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time

import pytest

from contract.asked import TraceContext
from contract.config import TracingConfig
from contract.figures import SpanFigures
from contract.messages import Job, Sampling
from contract.process.ports import free_port
from gateway.http.headers import RequestContextMiddleware
from gateway.tracing import exporter as exporter_module
from gateway.tracing import tracer as tracer_module
from gateway.tracing.otlp import SpanSource
from gateway.tracing.request_trace import RequestEnd, RequestTrace
from gateway.tracing.settings import tracing_settings
from gateway.tracing.span import Span, SpanContext, SpanMaker, context_in
from gateway.tracing.tracer import Tracer, open_tracer
from tests.standins.otlp_collector import Collector, collecting
from tests.waiting import until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GIVEN = TracingConfig(endpoint="http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def a_job(number: int = 0, trace: TraceContext | None = None) -> Job:
    return Job(f"j{number}", "m", Sampling(), prompt="x", trace=trace)


def opened(config: TracingConfig = GIVEN) -> Tracer:
    tracer = open_tracer(config, "g")
    assert tracer is not None
    return tracer


def end_some(tracer: Tracer, count: int) -> None:
    for number in range(count):
        now = time.monotonic()
        tracer.job(a_job(number), None, now, is_stream=False).end(None, "engine_failed", 0.0, now)


def test_traces_are_off_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # The exporter, and a client of HTTP with it, is imported there.
    monkeypatch.setattr(tracer_module, "_tracer", None)
    assert open_tracer(TracingConfig(), "g") is None
    for variable, value in (("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert open_tracer(GIVEN, "g") is None


async def test_without_a_tracer_a_request_has_no_trace() -> None:
    seen = []

    async def app(scope: object, receive: object, send: object) -> None: ...

    served = RequestContextMiddleware(app, lambda scope, context, status: seen.append(context))
    scope = {"type": "http", "method": "POST", "headers": [(b"traceparent", PARENT.encode())]}
    await served(scope, app, app)  # type: ignore[arg-type]
    assert [context.trace for context in seen] == [None]


def test_opentelemetrys_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tracing_settings(GIVEN)
    assert settings is not None
    assert (settings.url, settings.ratio) == ("http://127.0.0.1:9/v1/traces", 1.0)
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://all.example:4318/",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b,x-other=1",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-other=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1500",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=not,team=core",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = tracing_settings(GIVEN)
    assert settings is not None
    assert settings.url == "https://all.example:4318/v1/traces"
    assert settings.headers == {"x-team": "a b", "x-other": "2"}
    assert settings.resource == {"service.name": "mine", "team": "core"}
    assert (settings.timeout_s, settings.compresses) == (1.5, True)
    assert (settings.ratio, settings.heeds_parents) == (0.25, True)
    assert (settings.most_waiting, settings.at_once) == (100, 100)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own.example/path")
    settings = tracing_settings(TracingConfig())
    assert settings is not None
    assert settings.url == "http://own.example/path"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
    ],
)
def test_what_is_not_understood_is_named_and_requests_go_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert open_tracer(GIVEN, "g") is None
    assert f"there are no traces: {variable} " in caplog.text


async def test_a_collector_that_is_away_holds_nothing_up_and_gets_what_fits_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("MAX_QUEUE_SIZE", 40), ("MAX_EXPORT_BATCH_SIZE", 16)):
        monkeypatch.setenv(f"OTEL_BSP_{name}", str(value))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    port = free_port()
    tracer = opened(TracingConfig(endpoint=f"http://127.0.0.1:{port}"))
    tracer.start()
    with caplog.at_level(logging.WARNING):
        end_some(tracer, 30)
        await until(lambda: "does not take spans" in caplog.text)
    # Each job has two spans, so some are over the bound.
    with collecting(port) as collector:
        await tracer.close()
    assert len(collector.spans) == 40
    assert "40 wait, 20 were dropped" in caplog.text
    assert tracer.figures == SpanFigures(sent=40, full=20)
    assert caplog.text.count("does not take spans") == 1


async def test_a_stop_does_not_wait_for_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter_module, "_LAST_SPANS_S", 0.1)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    tracer = opened(TracingConfig(endpoint=f"http://127.0.0.1:{port}"))
    tracer.start()
    end_some(tracer, 1)
    await asyncio.wait_for(tracer.close(), 5)
    silent.close()
    await silent.wait_closed()


async def test_what_a_collector_refuses_for_good_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting() as collector:
        collector.statuses = [503, 400]
        tracer = opened(TracingConfig(endpoint=collector.url))
        end_some(tracer, 1)
        await tracer.close()
        assert "HTTP 503" in caplog.text
        end_some(tracer := opened(TracingConfig(endpoint=collector.url)), 1)
        await tracer.close()
        assert "HTTP 400); 0 wait, 2 were dropped" in caplog.text
    assert tracer.figures == SpanFigures(refused=2)
    assert collector.spans == {}


def test_a_client_that_leaves_before_there_is_an_answer_is_no_error() -> None:
    kept: list[Span] = []
    spans = SpanMaker(kept.append, lambda trace_id: True)
    RequestTrace(spans, spans.begin("POST", 1.0, None, {})).end(
        RequestEnd("/a", 0, ""), "", "", 2.0
    )
    assert (kept[0].name, kept[0].error) == ("POST /a", False)
    assert kept[0].attributes == {"http.route": "/a", "ew.end": "client_left"}


def test_the_collector_reads_every_kind_of_value() -> None:
    kept: list[Span] = []
    spans = SpanMaker(kept.append, lambda trace_id: True)
    values = {
        "text": "ä\ud800",
        "yes": True,
        "no": False,
        "number": -(2**40),
        "zero": 0,
        "float": math.pi,
        "list": ("stop", "length"),
        "empty": "",
    }
    parent = SpanContext(b"t" * 16, b"p" * 8, True, "a=b")
    spans.end(spans.begin("näme", 1.0, parent, values), 2.5)
    kept[0].link = parent
    collector = Collector()
    collector.take(SpanSource("1", {"service.name": "ew"}, "schema").request(kept))
    (read,) = collector.spans.values()
    shown = {**values, "text": "ä?", "list": ["stop", "length"]}
    assert (read.name, read.attributes, read.resource) == ("näme", shown, {"service.name": "ew"})
    assert (read.parent_id, read.links) == ((b"p" * 8).hex(), [(b"p" * 8).hex()])
    assert read.raw.trace_state == "a=b"
    assert read.raw.end_time_unix_nano - read.raw.start_time_unix_nano == 1_500_000_000


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"tracestate", b"a=b")],
        [(b"traceparent", b"hello")],
        [(b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")],
        [(b"traceparent", b"ff" + PARENT.encode()[2:])],
        [(b"traceparent", PARENT.encode() + b"-more")],
        [(b"traceparent", PARENT.encode()), (b"traceparent", PARENT.encode())],
        [(b"traceparent", b"\xff\xfe")],
    ],
)
def test_a_parent_that_is_none_is_as_if_there_were_none(
    headers: list[tuple[bytes, bytes]],
) -> None:
    assert context_in(headers) is None


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    read = context_in([(b"traceparent", b"01" + PARENT.encode()[2:] + b"-more")])
    assert read is not None
    assert read.carried().traceparent == PARENT


def test_a_span_is_handed_on_with_the_state_of_others_as_far_as_it_is_short() -> None:
    tracer = opened()
    for state, handed_on in (("a=b,c=d", "a=b,c=d"), ("a=" + "x" * 600, "")):
        job = a_job(trace=TraceContext(PARENT, state))
        context = tracer.job(job, None, time.monotonic(), is_stream=True).context
        assert context.traceparent[:36] == PARENT[:36]
        assert context.traceparent != PARENT
        assert context.tracestate == handed_on


@pytest.mark.parametrize(
    ("sampler", "alone", "of_sampled"),
    [("", "-00", "-01"), ("always_on", "-01", "-01"), ("parentbased_always_off", "-00", "-01")],
)
def test_a_share_of_the_traces_that_begin_here_is_kept(
    monkeypatch: pytest.MonkeyPatch, sampler: str, alone: str, of_sampled: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    tracer = opened(TracingConfig(endpoint=GIVEN.endpoint, sample_ratio=0.0))

    def flags(job: Job) -> str:
        return tracer.job(job, None, time.monotonic(), is_stream=True).context.traceparent[-3:]

    assert flags(a_job()) == alone
    assert flags(a_job(trace=TraceContext(PARENT))) == of_sampled


def test_a_client_is_not_heeded_where_the_sampler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    scope = {"method": "GET", "path": "/", "headers": [(b"traceparent", PARENT.encode())]}
    request = opened().request(scope, "r")
    assert request is not None
    assert request.context.traceparent[-3:] == "-00"
    assert request.trace_id in PARENT
