"""The figures of gateway processes: requests, answers, and API keys.

Names are those of vLLM's own metrics, with another prefix, where vLLM has such a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from contract.figures import Histogram, KeyFigures, ModelFigures
from contract.gateway_beat import GatewayBeat


class Distribution(NamedTuple):
    """One histogram of a model's answers."""

    name: str
    text: str
    read: Callable[[ModelFigures], Histogram]


DISTRIBUTIONS: Final = (
    Distribution(
        "request_queue_time_seconds",
        "From the request until a worker has it.",
        lambda figures: figures.queue_s,
    ),
    Distribution(
        "time_to_first_token_seconds",
        "From the request to its first token.",
        lambda figures: figures.first_token_s,
    ),
    Distribution(
        "request_time_per_output_token_seconds",
        "Mean time between two tokens of an answer, after its first.",
        lambda figures: figures.token_s,
    ),
    Distribution(
        "e2e_request_latency_seconds",
        "From the request to the end of its answer, of those with a good end.",
        lambda figures: figures.latency_s,
    ),
    Distribution(
        "request_prompt_tokens",
        "Tokens of a prompt, of answers with a good end.",
        lambda figures: figures.prompt_tokens,
    ),
    Distribution(
        "request_generation_tokens",
        "Tokens of an answer, of those with a good end.",
        lambda figures: figures.completion_tokens,
    ),
)


class _KeyFigure(NamedTuple):
    """One counter of an API key."""

    name: str
    text: str
    read: Callable[[KeyFigures], int]


_KEY_FIGURES: Final = (
    _KeyFigure("requests", "Requests with this API key.", lambda key: key.requests),
    _KeyFigure(
        "prompt_tokens",
        "Tokens of prompts, of answers with a good end.",
        lambda key: key.prompt_tokens,
    ),
    _KeyFigure(
        "generation_tokens",
        "Tokens of answers with a good end.",
        lambda key: key.completion_tokens,
    ),
)


def process_families(beats: Sequence[GatewayBeat]) -> Iterator[Metric]:
    """Yield the figures of each process, and of the requests that it answered."""
    started = GaugeMetricFamily(
        "ew_gateway_started_timestamp_seconds", "Start of the process.", labels=["process"]
    )
    text = "0 if it has not the API keys that it should (`keys.source`, docs/keys.md), else 1."
    keys = GaugeMetricFamily("ew_gateway_keys_ok", text, labels=["process"])
    labels = ["process", "route", "status", "model"]
    text = "HTTP requests answered. Status 0: the client left before there was one."
    requests = CounterMetricFamily("ew_requests", text, labels=labels)
    labels = ["process", "model", "code"]
    text = "Requests and answers that ended with an error, by its code."
    failures = CounterMetricFamily("ew_failures", text, labels=labels)
    labels = ["process", "model", "to", "reason"]
    text = "Requests for a model that another one was to do, by the reason (docs/models.md)."
    moves = CounterMetricFamily("ew_requests_moved", text, labels=labels)
    text = "Frames of workers that could not be read."
    unreadable = CounterMetricFamily("ew_unreadable_frames", text, labels=["process"])
    text = "Spans of traces that a collector took (docs/traces.md)."
    sent = CounterMetricFamily("ew_spans_sent", text, labels=["process"])
    labels = ["process", "reason"]
    text = "Spans lost: too many waited for the collector (`full`), or it refused them (`refused`)."
    dropped = CounterMetricFamily("ew_spans_dropped", text, labels=labels)
    text = "Requests with fields that had no effect."
    ignoring = CounterMetricFamily("ew_requests_ignoring_fields", text, labels=["process"])
    for beat in beats:
        process, figures = str(beat.index), beat.figures
        ignoring.add_metric([process], figures.ignoring)
        started.add_metric([process], figures.started_unix_s)
        keys.add_metric([process], int(not beat.keys_problem))
        unreadable.add_metric([process], figures.unreadable_frames)
        for row in figures.requests:
            requests.add_metric([process, row.route, str(row.status), row.model], row.count)
        for failure in figures.failures:
            failures.add_metric([process, failure.model, failure.code], failure.count)
        for move in figures.moves:
            moves.add_metric([process, move.model, move.to, move.reason], move.count)
        if (spans := figures.spans) is not None:
            sent.add_metric([process], spans.sent)
            dropped.add_metric([process, "full"], spans.full)
            dropped.add_metric([process, "refused"], spans.refused)
    yield from (started, keys, requests, failures, moves, unreadable, ignoring, sent, dropped)


def answer_families(
    beats: Sequence[GatewayBeat], prefix: str = "ew_", model_label: str = "model"
) -> Iterator[Metric]:
    """Yield the figures of each model's answers."""
    labels = ["process", model_label]
    text = "Tokens sent, also of answers that are still under way."
    tokens = CounterMetricFamily(f"{prefix}generation_tokens", text, labels=labels)
    text = "Tokens of prompts, of answers with a good end."
    prompts = CounterMetricFamily(f"{prefix}prompt_tokens", text, labels=labels)
    text = "Those of them that a prefix cache had."
    cached = CounterMetricFamily(f"{prefix}prompt_tokens_cached", text, labels=labels)
    text = "Choices with a good end, by finish reason."
    finished = CounterMetricFamily(
        f"{prefix}request_success", text, labels=[*labels, "finished_reason"]
    )
    distributions = [
        (HistogramMetricFamily(f"{prefix}{each.name}", each.text, labels=labels), each.read)
        for each in DISTRIBUTIONS
    ]
    for beat in beats:
        for model, figures in beat.figures.models.items():
            key = [str(beat.index), model]
            tokens.add_metric(key, figures.tokens)
            prompts.add_metric(key, figures.prompt_tokens.sum)
            cached.add_metric(key, figures.cached_tokens)
            for reason, count in figures.finished.items():
                finished.add_metric([*key, reason], count)
            for family, read in distributions:
                histogram = read(figures)
                family.add_metric(key, _buckets(histogram), histogram.sum)
    yield from (prompts, cached, tokens, finished, *(family for family, _ in distributions))


def open_family(beats: Sequence[GatewayBeat]) -> Metric:
    """Return the gauge of open answers."""
    labels = ["process", "model"]
    answers = GaugeMetricFamily("ew_answers_open", "Answers under way.", labels=labels)
    for beat in beats:
        for model, figures in beat.figures.models.items():
            answers.add_metric([str(beat.index), model], figures.open)
    return answers


def key_families(beats: Sequence[GatewayBeat]) -> Iterator[Metric]:
    """Yield the figures of each API key."""
    for figure in _KEY_FIGURES:
        name, labels = f"ew_key_{figure.name}", ["process", "key_id"]
        family = CounterMetricFamily(name, figure.text, labels=labels)
        for beat in beats:
            for key_id, key in beat.figures.keys.items():
                family.add_metric([str(beat.index), key_id], figure.read(key))
        yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    cumulative = histogram.cumulative().items()
    return [(floatToGoString(bound), count) for bound, count in cumulative]  # type: ignore[no-untyped-call]
