"""The figures of the gateway, its workers and GPUs, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from contract.figures import Histogram, ModelFigures
from contract.gateway_beat import GatewayBeat
from contract.host_beat import GpuFigures, HostBeat, WorkerMemory
from contract.messages import Heartbeat, State
from gateway.jobs.models import ModelAvailability, Models
from gateway.streams.link import Link


class _Time(NamedTuple):
    """One histogram of a model's answers."""

    name: str
    text: str
    read: Callable[[ModelFigures], Histogram]


_TIMES: Final = (
    _Time("queue", "From request to worker.", lambda figures: figures.queue_s),
    _Time("first_token", "To the first token.", lambda figures: figures.first_token_s),
    _Time("token", "Mean time between two tokens of an answer.", lambda figures: figures.token_s),
)


class _Figure(NamedTuple):
    """One figure of a heartbeat."""

    name: str
    text: str
    read: Callable[[Heartbeat], float | None]


_GAUGES: Final = (
    _Figure("running", "Jobs that the engine runs.", lambda beat: beat.running),
    _Figure("slots", "Jobs that the engine can run at once.", lambda beat: beat.slots),
    _Figure("engine_waiting", "Jobs that wait in the engine.", lambda beat: beat.engine_waiting),
    _Figure("kv_cache_usage_ratio", "KV cache in use.", lambda beat: beat.kv_cache_usage),
    _Figure("started_timestamp_seconds", "Its start.", lambda beat: beat.started_unix_s),
    _Figure("start_seconds", "How long its start took.", lambda beat: beat.ready_after_s),
    _Figure("pseudo_streaming", "1 if it cannot stream.", lambda beat: beat.pseudo_streaming),
)
_COUNTERS: Final = (
    _Figure("jobs", "Jobs ended.", lambda beat: beat.jobs_total),
    _Figure("prompt_tokens", "Tokens read.", lambda beat: beat.prompt_tokens_total),
    _Figure("generated_tokens", "Tokens generated.", lambda beat: beat.generated_tokens_total),
    _Figure("fenced", "Jobs lost to another worker.", lambda beat: beat.fenced_total),
    _Figure("taken_over", "Jobs of lost workers.", lambda beat: beat.taken_over_total),
    _Figure(
        "prefix_cache_queries", "Tokens looked up.", lambda beat: beat.prefix_cache_queries_total
    ),
    _Figure("prefix_cache_hits", "Tokens found.", lambda beat: beat.prefix_cache_hits_total),
)


class _GpuFigure(NamedTuple):
    """One figure of a GPU."""

    name: str
    text: str
    read: Callable[[GpuFigures], float | None]


class _ShareFigure(NamedTuple):
    """One figure of a worker's place on a GPU."""

    name: str
    text: str
    read: Callable[[WorkerMemory], float]


_GPU: Final = (
    _GpuFigure("memory_bytes", "All of its memory.", lambda gpu: gpu.total_bytes),
    _GpuFigure("memory_used_bytes", "By all processes.", lambda gpu: gpu.used_bytes),
    _GpuFigure("memory_promised_bytes", "Free, and reserved.", lambda gpu: gpu.promised_bytes),
    _GpuFigure("memory_foreign_bytes", "By others than ew.", lambda gpu: gpu.foreign_bytes),
    _GpuFigure("utilization_percent", "Time with a kernel on it.", lambda g: g.utilization_percent),
    _GpuFigure("temperature_celsius", "Its temperature.", lambda gpu: gpu.temperature_c),
)
_SHARES: Final = (
    _ShareFigure("reserved", "Promised to a worker.", lambda share: share.reserved_bytes),
    _ShareFigure("used", "What a worker has.", lambda share: share.used_bytes),
)


class Exposition(Collector):
    """The metrics for Prometheus: the counters of this gateway's processes, as of the heartbeats
    given, and the state at the moment."""

    def __init__(self, beats: Iterable[GatewayBeat], models: Models, link: Link) -> None:
        self._beats = sorted(beats, key=lambda beat: beat.index)
        self._models = models
        self._link = link

    def collect(self) -> Iterator[Metric]:
        yield from _process_families(self._beats)
        yield from _answer_families(self._beats)
        yield GaugeMetricFamily("ew_redis_up", "1 if Redis answers.", int(self._link.is_up))
        states = GaugeMetricFamily("ew_model_ready", "1 if it accepts jobs.", labels=["model"])
        waiting = GaugeMetricFamily("ew_queue_waiting", "Jobs unclaimed.", labels=["model"])
        statuses = {model: self._models.status(model) for model in self._models.configured}
        for model, status in statuses.items():
            states.add_metric([model], int(status.state is State.READY))
            waiting.add_metric([model], status.waiting)
        yield states
        yield waiting
        yield from _worker_families(statuses.values())
        yield _hung_family(self._models.hosts)
        yield from _gpu_families(self._models.hosts)

    def text(self) -> str:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()


def _process_families(beats: list[GatewayBeat]) -> Iterator[Metric]:
    started = GaugeMetricFamily(
        "ew_gateway_started_timestamp_seconds", "When the process started.", labels=["process"]
    )
    labels = ["process", "route", "status", "model"]
    requests = CounterMetricFamily("ew_requests", "Requests answered.", labels=labels)
    labels = ["process", "model", "code"]
    text = "Answers that ended with an error."
    failures = CounterMetricFamily("ew_failures", text, labels=labels)
    text = "Frames that could not be read."
    unreadable = CounterMetricFamily("ew_unreadable_frames", text, labels=["process"])
    text = "Requests with fields that had no effect."
    ignoring = CounterMetricFamily("ew_requests_ignoring_fields", text, labels=["process"])
    for beat in beats:
        process, figures = str(beat.index), beat.figures
        ignoring.add_metric([process], figures.ignoring)
        started.add_metric([process], figures.started_unix_s)
        unreadable.add_metric([process], figures.unreadable_frames)
        for row in figures.requests:
            requests.add_metric([process, row.route, str(row.status), row.model], row.count)
        for failure in figures.failures:
            failures.add_metric([process, failure.model, failure.code], failure.count)
    yield from (started, requests, failures, unreadable, ignoring)


def _answer_families(beats: list[GatewayBeat]) -> Iterator[Metric]:
    labels = ["process", "model"]
    answers = GaugeMetricFamily("ew_answers_open", "Answers under way.", labels=labels)
    tokens = CounterMetricFamily("ew_tokens_out", "Tokens sent to clients.", labels=labels)
    times = [
        (HistogramMetricFamily(f"ew_{each.name}_seconds", each.text, labels=labels), each.read)
        for each in _TIMES
    ]
    for beat in beats:
        for model, figures in beat.figures.models.items():
            key = [str(beat.index), model]
            answers.add_metric(key, figures.open)
            tokens.add_metric(key, figures.tokens)
            for family, read in times:
                histogram = read(figures)
                family.add_metric(key, _buckets(histogram), histogram.sum_s)
    yield from (answers, tokens, *(family for family, _ in times))


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    cumulative = histogram.cumulative().items()
    return [(floatToGoString(bound), count) for bound, count in cumulative]  # type: ignore[no-untyped-call]


def _worker_families(statuses: Iterable[ModelAvailability]) -> Iterator[Metric]:
    workers = [worker for status in statuses for worker in status.workers]
    labels = ["model", "worker", "engine"]
    for figure in _GAUGES:
        gauge = GaugeMetricFamily(f"ew_worker_{figure.name}", figure.text, labels=labels)
        for worker in workers:
            value = figure.read(worker)
            if value is not None:
                gauge.add_metric(_labels(worker), value)
        yield gauge
    for figure in _COUNTERS:
        counter = CounterMetricFamily(f"ew_worker_{figure.name}", figure.text, labels=labels)
        for worker in workers:
            counter.add_metric(_labels(worker), figure.read(worker) or 0)
        yield counter


def _hung_family(hosts: Iterable[HostBeat]) -> Metric:
    text = "Workers ended because their engine stood still."
    hung = CounterMetricFamily("ew_engine_hung", text, labels=["host", "model"])
    for host in hosts:
        for model, count in host.hung.items():
            hung.add_metric([host.host, model], count)
    return hung


def _gpu_families(hosts: Iterable[HostBeat]) -> Iterator[Metric]:
    known = list(hosts)
    for figure in _GPU:
        labels = ["host", "gpu", "uuid", "name"]
        gauge = GaugeMetricFamily(f"ew_gpu_{figure.name}", figure.text, labels=labels)
        for host in known:
            for gpu in host.gpus:
                value = figure.read(gpu)
                if value is not None:
                    gauge.add_metric([host.host, str(gpu.index), gpu.uuid, gpu.name], value)
        yield gauge
    for each in _SHARES:
        labels = ["host", "model", "slot", "uuid"]
        name = f"ew_worker_gpu_memory_{each.name}_bytes"
        gauge = GaugeMetricFamily(name, each.text, labels=labels)
        for host in known:
            for share in host.workers:
                gauge.add_metric([host.host, share.model, share.slot, share.uuid], each.read(share))
        yield gauge


def _labels(worker: Heartbeat) -> list[str]:
    return [worker.model, worker.name, worker.engine]
