"""Figures of the gateway for Prometheus. Each process counts for itself and publishes its text
in its heartbeat; whichever serves /metrics puts all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.registry import Collector

from contract.messages import GpuFigures, Heartbeat, HostBeat, State, WorkerMemory
from gateway.link import Link
from gateway.models import Models, ModelStatus

#: A label's values come from the configuration only, so that clients cannot make new series.
OTHER: Final = "other"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1)


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
    _GpuFigure("memory_used_bytes", "By anybody.", lambda gpu: gpu.used_bytes),
    _GpuFigure("memory_promised_bytes", "Free, and reserved.", lambda gpu: gpu.promised_bytes),
    _GpuFigure("memory_foreign_bytes", "By others than ew.", lambda gpu: gpu.foreign_bytes),
    _GpuFigure("utilization_percent", "Time with a kernel on it.", lambda g: g.utilization_percent),
    _GpuFigure("temperature_celsius", "Its temperature.", lambda gpu: gpu.temperature_c),
)
_SHARES: Final = (
    _ShareFigure("reserved", "Promised to a worker.", lambda share: share.reserved_bytes),
    _ShareFigure("used", "What a worker has.", lambda share: share.used_bytes),
)


class ModelMetrics(NamedTuple):
    """What is counted of one model's answers."""

    open: Gauge
    tokens: Counter
    queue_s: Histogram
    first_token_s: Histogram
    token_s: Histogram


class Metrics:
    """What this process has counted since it started."""

    def __init__(self, process: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._process = str(process)
        self._registry = CollectorRegistry()
        self._models: dict[str, ModelMetrics] = {}
        labels = ["process", "model"]
        new = self._registry
        self._requests = Counter(
            "ew_requests",
            "Requests answered.",
            ["process", "route", "status", "model"],
            registry=new,
        )
        self._failures = Counter(
            "ew_failures", "Answers that ended with an error.", [*labels, "code"], registry=new
        )
        self.unreadable_frames = Counter(
            "ew_unreadable_frames", "Frames that could not be read.", ["process"], registry=new
        ).labels(self._process)
        self._open = Gauge("ew_answers_open", "Answers under way.", labels, registry=new)
        self._tokens = Counter("ew_tokens_out", "Tokens sent to clients.", labels, registry=new)
        self._queue = Histogram(
            "ew_queue_seconds", "From request to worker.", labels, registry=new, buckets=_SECONDS
        )
        self._first = Histogram(
            "ew_first_token_seconds", "To the first token.", labels, registry=new, buckets=_SECONDS
        )
        self._token = Histogram(
            "ew_token_seconds",
            "Mean time between two tokens of an answer.",
            labels,
            registry=new,
            buckets=_TOKEN_SECONDS,
        )

        started = Gauge(
            "ew_gateway_started_timestamp_seconds",
            "When the process started.",
            ["process"],
            registry=new,
        )
        started.labels(self._process).set_to_current_time()

    def of(self, model: str) -> ModelMetrics:
        """The figures of a model that is in the configuration."""
        found = self._models.get(model)
        if found is None:
            labels = (self._process, model)
            found = self._models[model] = ModelMetrics(
                self._open.labels(*labels),
                self._tokens.labels(*labels),
                self._queue.labels(*labels),
                self._first.labels(*labels),
                self._token.labels(*labels),
            )
        return found

    def count_request(self, route: str, status: int, model: str) -> None:
        self._requests.labels(self._process, route, str(status), model or OTHER).inc()

    def count_failure(self, model: str, code: str) -> None:
        self._failures.labels(self._process, model or OTHER, code).inc()

    def text(self) -> str:
        """In Prometheus' text format."""
        return generate_latest(self._registry).decode()


class StateCollector(Collector):
    """How things are at the moment, seen alike by every gateway process."""

    def __init__(self, models: Models, link: Link) -> None:
        self._models = models
        self._link = link

    def collect(self) -> Iterator[Metric]:
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
        yield from _gpu_families(self._models.hosts)

    def text(self) -> str:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()


def _worker_families(statuses: Iterable[ModelStatus]) -> Iterator[Metric]:
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


def merge(texts: Iterable[str]) -> str:
    """Put texts in Prometheus' format together: each family once, with all of its samples."""
    heads: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for text in texts:
        for part in text.split("# HELP ")[1:]:
            help_line, type_line, *lines = part.splitlines()
            name = help_line.split(" ", 1)[0]
            heads[name] = f"# HELP {help_line}\n{type_line}"
            samples.setdefault(name, []).extend(lines)
    families = ("\n".join([head, *samples[name]]) for name, head in heads.items())
    return "\n".join([*families, ""])
