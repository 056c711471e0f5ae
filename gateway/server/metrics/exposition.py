"""The metrics of ew, section by section: `/metrics`, and the reference in docs/metrics.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.gateway_beat import GatewayBeat
from contract.host_beat import HostBeat
from contract.messages import State
from contract.release import release
from gateway.jobs.availability import ModelAvailability
from gateway.server.metrics.answers import (
    answer_families,
    key_families,
    open_family,
    process_families,
)
from gateway.server.metrics.hosts import gpu_families, host_families
from gateway.server.metrics.workers import worker_families


class MetricSources(NamedTuple):
    """Everything that metrics are made of: the heartbeats of this gateway's processes, and the
    state of the rest as this process knows it. `models` are the configured ones, by id."""

    beats: list[GatewayBeat]
    models: dict[str, ModelAvailability]
    hosts: tuple[HostBeat, ...]
    redis_is_up: bool


class MetricSection(NamedTuple):
    """Metrics of one thing."""

    title: str
    families: Iterable[Metric]


def sections(sources: MetricSources) -> Iterator[MetricSection]:
    """Yield all metrics."""
    beats = sorted(sources.beats, key=lambda beat: beat.index)
    workers = [worker for status in sources.models.values() for worker in status.workers]
    yield MetricSection("The installation", _installation(sources))
    yield MetricSection("Answers, by model", [open_family(beats), *answer_families(beats)])
    yield MetricSection("Requests, by gateway process", process_families(beats))
    yield MetricSection("API keys", key_families(beats))
    yield MetricSection("Models", _models(sources.models))
    yield MetricSection("Workers", worker_families(workers))
    yield MetricSection("Hosts", host_families(sources.hosts))
    yield MetricSection("GPUs", gpu_families(sources.hosts))


def text_of(families: Iterable[Metric]) -> str:
    """Return metrics in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry).decode()


def exposition(sources: MetricSources) -> str:
    """Return what `/metrics` answers."""
    return text_of(family for section in sections(sources) for family in section.families)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _installation(sources: MetricSources) -> Iterator[Metric]:
    text = "Always 1; its labels say which release answers."
    build = GaugeMetricFamily("ew_build_info", text, labels=["version", "python"])
    build.add_metric([release(), platform.python_version()], 1)
    yield build
    yield GaugeMetricFamily("ew_redis_up", "1 if Redis answers, else 0.", int(sources.redis_is_up))


def _models(models: dict[str, ModelAvailability]) -> Iterator[Metric]:
    ready = GaugeMetricFamily("ew_model_ready", "1 if it accepts jobs, else 0.", labels=["model"])
    text = "Jobs that wait for a worker."
    waiting = GaugeMetricFamily("ew_num_requests_waiting", text, labels=["model"])
    for model, status in models.items():
        ready.add_metric([model], int(status.state is State.READY))
        waiting.add_metric([model], status.waiting)
    yield from (ready, waiting)
