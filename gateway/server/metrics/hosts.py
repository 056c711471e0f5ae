"""The figures of hosts, as their supervisors' heartbeats carry them: models that come and go,
restarts, GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from contract.host_beat import GpuFigures, HostBeat, WorkerMemory


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
    _GpuFigure("memory_used_bytes", "Used by all processes.", lambda gpu: gpu.used_bytes),
    _GpuFigure(
        "memory_promised_bytes",
        "Free, and reserved for workers of ew.",
        lambda gpu: gpu.promised_bytes,
    ),
    _GpuFigure("memory_foreign_bytes", "Used by others than ew.", lambda gpu: gpu.foreign_bytes),
    _GpuFigure(
        "utilization_ratio",
        "Time with a kernel on it, from 0 to 1.",
        lambda gpu: None if gpu.utilization_percent is None else gpu.utilization_percent / 100,
    ),
    _GpuFigure("temperature_celsius", "Its temperature.", lambda gpu: gpu.temperature_c),
)
_SHARES: Final = (
    _ShareFigure("reserved", "Promised to a worker.", lambda share: share.reserved_bytes),
    _ShareFigure("used", "What a worker has.", lambda share: share.used_bytes),
)


def host_families(hosts: Sequence[HostBeat]) -> Iterator[Metric]:
    """Yield how models came and went, and what was started again."""
    labels = ["host", "model"]
    text = "How often a model was loaded (`load`), or woken from its sleep (`wake`)."
    loads = CounterMetricFamily("ew_model_loads", text, labels=[*labels, "kind"])
    took = GaugeMetricFamily("ew_model_last_load_seconds", "How long that took.", labels=labels)
    text = "Loaded models that went: `idle`, `eviction` (for another model), `operator`."
    unloads = CounterMetricFamily("ew_model_unloads", text, labels=[*labels, "reason"])
    text = "Loaded models that fell asleep, for the same reasons."
    sleeps = CounterMetricFamily("ew_model_sleeps", text, labels=[*labels, "reason"])
    text = "Processes that were started again after a death, by unit, such as `gateway`."
    restarts = CounterMetricFamily("ew_unit_restarts", text, labels=["host", "unit"])
    text = "Workers ended because their engine stood still."
    hung = CounterMetricFamily("ew_engine_hung", text, labels=labels)
    for host in hosts:
        for model, residency in host.residency.items():
            key = [host.host, model]
            loads.add_metric([*key, "load"], residency.loads)
            loads.add_metric([*key, "wake"], residency.wakes)
            if residency.last_load_s is not None:
                took.add_metric(key, residency.last_load_s)
            for reason, count in residency.unloads.items():
                unloads.add_metric([*key, reason], count)
            for reason, count in residency.sleeps.items():
                sleeps.add_metric([*key, reason], count)
        for unit, count in host.restarts.items():
            restarts.add_metric([host.host, unit], count)
        for model, count in host.hung.items():
            hung.add_metric([host.host, model], count)
    yield from (loads, took, unloads, sleeps, restarts, hung)


def gpu_families(hosts: Sequence[HostBeat]) -> Iterator[Metric]:
    """Yield the figures of each GPU, and of the workers on it."""
    for figure in _GPU:
        labels = ["host", "gpu", "uuid", "name"]
        gauge = GaugeMetricFamily(f"ew_gpu_{figure.name}", figure.text, labels=labels)
        for host in hosts:
            for gpu in host.gpus:
                value = figure.read(gpu)
                if value is not None:
                    gauge.add_metric([host.host, str(gpu.index), gpu.uuid, gpu.name], value)
        yield gauge
    for each in _SHARES:
        labels = ["host", "model", "slot", "uuid"]
        name = f"ew_worker_gpu_memory_{each.name}_bytes"
        gauge = GaugeMetricFamily(name, each.text, labels=labels)
        for host in hosts:
            for share in host.workers:
                gauge.add_metric([host.host, share.model, share.slot, share.uuid], each.read(share))
        yield gauge
