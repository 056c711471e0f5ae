"""The figures of workers, as their heartbeats carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from contract.messages import Heartbeat


class _Figure(NamedTuple):
    """One figure of a heartbeat; None where the engine does not say."""

    name: str
    text: str
    read: Callable[[Heartbeat], float | None]


_GAUGES: Final = (
    _Figure("num_requests_running", "Jobs that the engine runs.", lambda beat: beat.running),
    _Figure(
        "num_requests_waiting", "Jobs that wait in the engine.", lambda beat: beat.engine_waiting
    ),
    _Figure("slots", "Jobs that the engine can run at once.", lambda beat: beat.slots),
    _Figure(
        "kv_cache_usage_ratio", "KV cache in use, from 0 to 1.", lambda beat: beat.kv_cache_usage
    ),
    _Figure("started_timestamp_seconds", "Its start.", lambda beat: beat.started_unix_s),
    _Figure("start_seconds", "How long its start took.", lambda beat: beat.ready_after_s),
    _Figure(
        "pseudo_streaming", "1 if it cannot stream, else 0.", lambda beat: beat.pseudo_streaming
    ),
)
_COUNTERS: Final = (
    _Figure("jobs", "Jobs ended.", lambda beat: beat.jobs_total),
    _Figure("prompt_tokens", "Tokens read.", lambda beat: beat.prompt_tokens_total),
    _Figure("generation_tokens", "Tokens generated.", lambda beat: beat.generated_tokens_total),
    _Figure("fenced", "Jobs lost to another worker.", lambda beat: beat.fenced_total),
    _Figure("taken_over", "Jobs of lost workers.", lambda beat: beat.taken_over_total),
    _Figure(
        "prefix_cache_queries",
        "Tokens looked up in the prefix cache.",
        lambda beat: beat.prefix_cache_queries_total,
    ),
    _Figure("prefix_cache_hits", "Tokens found there.", lambda beat: beat.prefix_cache_hits_total),
    _Figure(
        "num_preemptions",
        "Answers that the engine put aside for want of KV cache.",
        lambda beat: beat.preemptions_total,
    ),
)


def worker_families(workers: Sequence[Heartbeat]) -> Iterator[Metric]:
    """Yield the figures of each worker."""
    labels = ["model", "worker", "engine"]
    text = "Always 1; its labels say which release serves a model, on which host."
    info = GaugeMetricFamily("ew_worker_info", text, labels=[*labels, "version", "env", "host"])
    for worker in workers:
        info.add_metric([*_labels(worker), worker.version, worker.env, worker.host], 1)
    yield info
    families: list[tuple[GaugeMetricFamily | CounterMetricFamily, _Figure]] = [
        *((GaugeMetricFamily(*_named(each), labels=labels), each) for each in _GAUGES),
        *((CounterMetricFamily(*_named(each), labels=labels), each) for each in _COUNTERS),
    ]
    for family, figure in families:
        for worker in workers:
            if (value := figure.read(worker)) is not None:
                family.add_metric(_labels(worker), value)
        yield family


def _named(figure: _Figure) -> tuple[str, str]:
    return f"ew_worker_{figure.name}", figure.text


def _labels(worker: Heartbeat) -> list[str]:
    return [worker.model, worker.name, worker.engine]
