"""The same figures by the names that vLLM's server gives them, of every engine: for dashboards made
for vLLM, and for endpoint pickers of the Gateway API inference extension.

Names and labels are those of vLLM 0.33 (`vllm/v1/metrics/loggers.py`); those that endpoint pickers
read are `num_requests_waiting`, `num_requests_running`, `kv_cache_usage_perc` and
`lora_requests_info` (model server protocol, proposal 003 of the inference extension).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from contract.config import ModelConfig
from contract.messages import Heartbeat
from gateway.jobs.availability import ModelAvailability
from gateway.server.metrics.answers import answer_families
from gateway.server.metrics.exposition import MetricSources

_LABELS: Final = ["model_name", "engine"]
#: vLLM's number of an engine; here all workers of a model are one.
_ALL: Final = "0"
_COUNTERS: Final[Mapping[str, tuple[str, Callable[[Heartbeat], int | None]]]] = {
    "prefix_cache_queries": ("Tokens looked up.", lambda beat: beat.prefix_cache_queries_total),
    "prefix_cache_hits": ("Tokens found.", lambda beat: beat.prefix_cache_hits_total),
    "num_preemptions": ("Answers put aside.", lambda beat: beat.preemptions_total),
}


def vllm_families(
    sources: MetricSources, configured: Mapping[str, ModelConfig]
) -> Iterator[Metric]:
    """Yield the metrics. Gauges are of all workers of a model together; counters are each
    worker's or gateway process's own, so that none goes back when one of them ends."""
    yield from _gauges(sources.models)
    yield from _counters([worker for each in sources.models.values() for worker in each.workers])
    yield _adapters(sources.models, configured)
    beats = sorted(sources.beats, key=lambda beat: beat.index)
    yield from answer_families(beats, "vllm:", "model_name")


def _gauges(models: Mapping[str, ModelAvailability]) -> Iterator[Metric]:
    running = GaugeMetricFamily("vllm:num_requests_running", "Jobs that run.", labels=_LABELS)
    text = "Jobs that wait, for a worker or in an engine."
    waiting = GaugeMetricFamily("vllm:num_requests_waiting", text, labels=_LABELS)
    text = "KV cache in use, from 0 to 1: of the worker with the most room."
    usage = GaugeMetricFamily("vllm:kv_cache_usage_perc", text, labels=_LABELS)
    for model, status in models.items():
        workers, key = status.workers, [model, _ALL]
        inside = sum(each.engine_waiting for each in workers)
        # A worker counts as running what waits in its engine.
        running.add_metric(key, max(0, sum(each.running for each in workers) - inside))
        waiting.add_metric(key, status.waiting + inside)
        known = [each.kv_cache_usage for each in workers if each.kv_cache_usage is not None]
        if known:
            usage.add_metric(key, min(known))
    yield from (running, waiting, usage)


def _counters(workers: Sequence[Heartbeat]) -> Iterator[Metric]:
    for name, (text, read) in _COUNTERS.items():
        family = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        for worker in workers:
            if (value := read(worker)) is not None:
                family.add_metric([worker.model, worker.name], value)
        yield family


def _adapters(
    models: Mapping[str, ModelAvailability], configured: Mapping[str, ModelConfig]
) -> Metric:
    text = "LoRA adapters in use; the value is the time, in Unix seconds."
    labels = ["max_lora", "running_lora_adapters", "waiting_lora_adapters"]
    family = GaugeMetricFamily("vllm:lora_requests_info", text, labels=labels)
    for model, status in models.items():
        adapters = configured[model].adapters
        if adapters and status.workers:
            running = {name for each in status.workers for name in each.adapters_in_use}
            family.add_metric([str(len(adapters)), ",".join(sorted(running)), ""], time.time())
    return family
