"""Traces of a real gateway, as a collector of OTLP gets them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from contract.bus.claims import Attempt
from contract.bus.client import connect
from contract.config import ModelConfig, WorkerSpec
from contract.messages import EngineTimes, ErrorCode, Failed, Started
from tests.contract.queue_workers import end_lease
from tests.engines.contract.harness import WorkerProcess
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker, delta, done
from tests.standins.otlp_collector import CollectedSpan, Collector, collecting
from tests.waiting import until

CHAT = "/v1/chat/completions"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MODELS = ("traced", "killed", "absent")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture(scope="module")
def tracing_gateway(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Gateway]:
    config = {
        "models": {model: {"engine": "mock", "model_path": "none"} for model in MODELS},
        "gateway": {"processes": 1},
        "tracing": {"endpoint": collector.url},
    }
    started = Gateway(tmp_path_factory.mktemp("gateway"), redis_url, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        started.start()
    yield started
    assert started.stop() == 0, started.log.read_text()
    assert collector.repeated == []


@pytest.fixture
async def worker(tracing_gateway: Gateway) -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker(tracing_gateway.redis_url, "traced") as ready:
        yield ready


@pytest.fixture
async def client(tracing_gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(tracing_gateway) as connected:
        yield connected


def asked(model: str = "traced", **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "secret words"}]
    return {"model": model, "messages": messages, "stream": True, **more}


def parent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT}-{flags}", "tracestate": "vendor=x"}


async def request_span(collector: Collector, trace_id: str) -> CollectedSpan:
    """Return the request's span of a trace, once it has come; it is sent after those below it."""

    def found() -> CollectedSpan | None:
        roots = collector.tree(trace_id)
        return next((root for root in roots if root.raw.kind == root.raw.SPAN_KIND_SERVER), None)

    span: CollectedSpan = await until(found)
    return span


@asynccontextmanager
async def begun_stream(
    worker: ScriptedWorker, client: httpx.AsyncClient, trace_id: str
) -> AsyncIterator[tuple[Attempt, httpx.Response]]:
    """Yield an attempt whose answer has begun, and the response; its client leaves at the end."""

    async def begin() -> Attempt:
        attempt = await worker.start()
        await worker.delta(attempt, "x")
        return attempt

    beginning = asyncio.create_task(begin())
    async with client.stream("POST", CHAT, json=asked(), headers=parent(trace_id)) as answer:
        yield await beginning, answer


def lies_within(inner: CollectedSpan, outer: CollectedSpan) -> bool:
    begins = outer.raw.start_time_unix_nano <= inner.raw.start_time_unix_nano
    return begins and inner.raw.end_time_unix_nano <= outer.raw.end_time_unix_nano


async def test_one_trace_goes_from_the_client_through_queue_claim_engine_and_stream(
    worker: ScriptedWorker, client: httpx.AsyncClient, collector: Collector
) -> None:
    body = asked(max_tokens=7, temperature=0.5)
    asking = asyncio.create_task(
        client.post(f"{CHAT}?key=hidden", json=body, headers=parent(TRACE))
    )
    attempt = await worker.next()
    await worker.say(attempt, Started("w1", 100), delta("hello"))
    end = done(attempt, 1, "stop")
    await worker.say(attempt, replace(end, times=EngineTimes(10, 500, 900)))
    answer = await asking
    assert answer.status_code == 200
    request = await request_span(collector, TRACE)

    assert (request.name, request.parent_id) == (f"POST {CHAT}", PARENT)
    assert request.attributes["http.route"] == request.attributes["url.path"] == CHAT
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["ew.request.id"] == answer.headers["x-request-id"]
    assert request.resource["service.name"] == "ew"
    assert request.resource["deployment.environment.name"] == "test"
    (chat,) = request.children
    assert (chat.name, chat.raw.kind) == ("chat traced", chat.raw.SPAN_KIND_CLIENT)
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.provider.name"] == "ew"
    assert chat.attributes["gen_ai.request.model"] == "traced"
    assert chat.attributes["gen_ai.request.max_tokens"] == 7
    assert chat.attributes["gen_ai.request.temperature"] == 0.5
    assert chat.attributes["gen_ai.request.stream"] is True
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert chat.attributes["gen_ai.usage.input_tokens"] == end.prompt_tokens
    assert chat.attributes["gen_ai.usage.output_tokens"] == end.completion_tokens
    assert chat.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert [each.name for each in chat.children] == ["queue", "attempt", "stream"]
    queue, tried, stream = chat.children
    assert queue.raw.end_time_unix_nano == tried.raw.start_time_unix_nano
    assert (tried.attributes["ew.attempt"], tried.attributes["ew.worker"]) == (1, "w1")
    assert [each.name for each in tried.children] == ["claim", "engine"]
    assert [event.name for event in tried.children[1].raw.events] == ["first_token"]
    inner = [(chat, request), (queue, chat), (tried, chat), (stream, chat)]
    inner += [(each, tried) for each in tried.children]
    assert [pair for pair in inner if not lies_within(*pair)] == []
    assert not any(span.is_error for span in (request, chat, *chat.children))

    trace = attempt.job.trace
    assert trace is not None
    assert trace.traceparent == f"00-{TRACE}-{chat.span_id}-01"
    assert trace.tracestate == "vendor=x"
    sent = b"".join(collector.bodies)
    assert chat.span_id in collector.spans
    assert not any(word in sent for word in (b"secret", b"hidden", b"hello"))


async def test_metrics_tell_what_became_of_spans(
    client: httpx.AsyncClient, collector: Collector
) -> None:
    await client.post(CHAT, json={}, headers=parent("c" * 32))
    await request_span(collector, "c" * 32)

    async def are_counted() -> bool:
        text = (await client.get("/metrics")).text
        lost = 'ew_spans_dropped_total{process="0",reason="full"} 0.0'
        return lost in text and re.search(r"^ew_spans_sent_total.* [1-9]", text, re.M) is not None

    await until(are_counted)


async def test_a_client_that_leaves_is_no_error(
    worker: ScriptedWorker, client: httpx.AsyncClient, collector: Collector
) -> None:
    trace_id = "1" * 32
    async with begun_stream(worker, client, trace_id):
        pass
    request = await request_span(collector, trace_id)
    (chat,) = request.children
    assert request.attributes["ew.end"] == chat.attributes["ew.end"] == "client_left"
    (tried,) = chat.all("attempt")
    assert not any(span.is_error for span in (request, chat, tried))


async def test_errors_are_those_of_the_server(
    worker: ScriptedWorker, client: httpx.AsyncClient, collector: Collector
) -> None:
    refused, failed = "2" * 32, "3" * 32
    answer = await client.post(CHAT, json=asked("nope"), headers=parent(refused))
    assert answer.status_code == 404
    request = await request_span(collector, refused)
    assert (request.attributes["error.type"], request.is_error) == ("model_not_found", False)
    assert request.children == []

    times = EngineTimes(1, None, 2)
    error = Failed(ErrorCode.ENGINE_FAILED, "it quotes secret words", times=times)
    async with begun_stream(worker, client, failed) as (attempt, begun):
        # The head says 200 by now.
        await worker.say(attempt, error)
        assert b"engine_failed" in await begun.aread()
    request = await request_span(collector, failed)
    (chat,) = request.children
    (tried,) = chat.all("attempt")
    assert [each.name for each in tried.children] == ["claim", "engine"]
    for span in (request, chat, tried):
        assert (span.attributes["error.type"], span.is_error) == ("engine_failed", True)


async def test_a_job_that_was_never_put_has_no_span(
    client: httpx.AsyncClient, collector: Collector
) -> None:
    trace_id = "9" * 32
    answer = await client.post(CHAT, json=asked("absent"), headers=parent(trace_id))
    assert answer.status_code == 503
    request = await request_span(collector, trace_id)
    assert (request.attributes["error.type"], request.is_error) == ("model_not_started", True)
    assert request.children == []


async def test_an_answer_that_is_asked_for_again_is_in_both_traces(
    worker: ScriptedWorker, client: httpx.AsyncClient, collector: Collector
) -> None:
    traces = ("a" * 32, "b" * 32)
    asking = [
        client.post(CHAT, json=asked(), headers={**parent(each), "idempotency-key": "same"})
        for each in traces
    ]
    job, first = await worker.job_of(asking[0])
    again = await asking[1]
    assert first.text == again.text
    for trace_id in traces:
        request = await request_span(collector, trace_id)
        (chat,) = request.children
        assert chat.attributes["ew.job.id"] == job.id
        assert [each.name for each in chat.children] == ["queue", "attempt", "stream"]


async def test_what_is_not_sampled_is_carried_all_the_same(
    worker: ScriptedWorker, client: httpx.AsyncClient, collector: Collector
) -> None:
    unwanted, wanted = "4" * 32, "5" * 32
    for trace_id, flags in ((unwanted, "00"), (wanted, "01")):
        asking = client.post(CHAT, json=asked(), headers=parent(trace_id, flags))
        job, answer = await worker.job_of(asking)
        assert answer.status_code == 200
        assert job.trace is not None
        assert job.trace.traceparent.startswith(f"00-{trace_id}-")
        assert job.trace.traceparent.endswith(f"-{flags}")
    await request_span(collector, wanted)
    assert collector.tree(unwanted) == []


async def test_a_request_that_only_reads_has_a_span_if_its_client_traces_it(
    client: httpx.AsyncClient, collector: Collector
) -> None:
    trace_id, count = "6" * 32, len(collector.spans)
    assert (await client.get("/v1/models")).status_code == 200
    assert (await client.get("/v1/models", headers=parent(trace_id))).status_code == 200
    request = await request_span(collector, trace_id)
    assert request.name == "GET /v1/models"
    assert len(collector.spans) == count + 1


async def test_a_background_job_goes_on_in_the_trace_of_its_request(
    worker: ScriptedWorker, client: httpx.AsyncClient, collector: Collector
) -> None:
    trace_id = "7" * 32
    asking = {"modelId": "traced", "prompt": "secret words"}
    created = await client.post("/api/v1/jobs", json=asking, headers=parent(trace_id))
    assert created.status_code == 202
    job = (await worker.answer("x")).job

    def has_ended() -> list[CollectedSpan]:
        roots = collector.tree(trace_id)
        return roots and [span for span in roots[0].children if span.all("stream")]

    (ended,) = await until(has_ended)
    assert (ended.name, ended.attributes["ew.job.id"]) == ("chat traced", job.id)
    (request,) = collector.tree(trace_id)
    assert request.raw.end_time_unix_nano < ended.raw.end_time_unix_nano


async def test_a_killed_workers_attempt_is_linked_to_by_the_next(
    tracing_gateway: Gateway, client: httpx.AsyncClient, collector: Collector, tmp_path: Path
) -> None:
    trace_id = "8" * 32
    db = connect(tracing_gateway.redis_url)
    workers = [_mock_worker(tracing_gateway, "first", tmp_path)]
    try:
        await workers[0].wait_until_ready(60)
        body = asked("killed", max_tokens=40)
        texts = []
        async with client.stream("POST", CHAT, json=body, headers=parent(trace_id)) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    texts += [each["delta"] for each in json.loads(line[6:])["choices"]]
                if len(texts) >= 3 and len(workers) == 1:
                    workers[0].process.kill()
                    assert workers[0].process.wait(10) == -9
                    workers.append(_mock_worker(tracing_gateway, "second", tmp_path))
                    await workers[1].wait_until_ready(60)
                    await end_lease(db, "killed", "first")
    finally:
        await db.aclose()
        for each in workers:
            each.process.kill()
            each.process.wait()
    said = "".join(each.get("content") or "" for each in texts)
    assert said.split() == [str(number) for number in range(40)]
    request = await request_span(collector, trace_id)
    (chat,) = request.children
    lost, last = chat.all("attempt")
    assert (lost.attributes["ew.worker"], lost.attributes["ew.end"]) == ("first", "lost")
    assert (last.attributes["ew.worker"], last.attributes["ew.end"]) == ("second", "done")
    assert (lost.links, last.links) == ([], [lost.span_id])
    assert (lost.is_error, last.is_error, chat.is_error) == (True, False, False)
    assert lost.raw.end_time_unix_nano <= last.raw.start_time_unix_nano
    assert [each.name for each in last.children] == ["claim", "engine"]
    assert [each.name for each in lost.children] == ["claim"]
    assert len(chat.all("queue")) == 2


def _mock_worker(gateway: Gateway, name: str, directory: Path) -> WorkerProcess:
    model = ModelConfig(engine="mock", model_path="none", engine_args={"tokens_per_s": 100})
    names = {"name": name, "model_id": "killed", "engine": "mock", "env": "-"}
    spec = WorkerSpec(model=model, redis_url=gateway.redis_url, **names)
    return WorkerProcess(spec, sys.executable, {}, directory / f"{name}.log")
