"""Quantiles of the time to the first token, and failures, from the counters of all gateways."""

from __future__ import annotations

import copy

from contract.figures import Failures, Figures, ModelFigures
from orchestrator.supervisor.reporting.latency import Quantiles, RecentAnswers, quantile


class Gateway:
    """One gateway process, and how long its answers took to begin."""

    def __init__(self) -> None:
        self.figures = Figures()

    def answered(self, model: str, *seconds: float) -> None:
        for each in seconds:
            figures = self.figures.models.setdefault(model, ModelFigures())
            figures.first_token_s.observe(each)

    def now(self) -> Figures:
        return copy.deepcopy(self.figures)


def test_quantiles_lie_inside_their_bucket_as_prometheus_has_it() -> None:
    buckets = {0.1: 0.0, 1.0: 50.0, 10.0: 100.0, float("inf"): 100.0}
    assert quantile(0.25, buckets) == 0.1 + 0.9 * 0.5
    assert quantile(0.5, buckets) == 1.0
    assert quantile(0.75, buckets) == 5.5


def test_beyond_the_last_bucket_its_bound_is_all_that_is_known() -> None:
    assert quantile(0.5, {0.1: 0.0, 10.0: 1.0, float("inf"): 9.0}) == 10.0


def test_without_answers_nothing_is_known() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {0.1: 0.0, float("inf"): 0.0}) is None
    seen = RecentAnswers()
    assert seen.quantiles("m") == Quantiles()
    seen.count(0.0, [Gateway().now()])
    assert seen.quantiles("m") == Quantiles(None, None)


def test_gateways_are_added_up_and_models_kept_apart() -> None:
    one, two, seen = Gateway(), Gateway(), RecentAnswers()
    one.answered("m", *[0.05] * 50)
    two.answered("m", *[5.0] * 50)
    two.answered("other", 0.05)
    seen.count(0.0, [one.now(), two.now()])
    p50, p99 = seen.quantiles("m")
    assert (p50, round(p99 or 0, 2)) == (0.05, 4.95)
    assert (seen.quantiles("other").p99_s or 0) < 0.1


def test_only_the_last_five_minutes_count() -> None:
    gateway, seen = Gateway(), RecentAnswers()
    gateway.answered("m", *[5.0] * 100)
    seen.count(0.0, [gateway.now()])
    gateway.answered("m", *[0.05] * 10)
    seen.count(200.0, [gateway.now()])
    seen.count(301.0, [gateway.now()])
    assert (seen.quantiles("m").p99_s or 9) < 0.1
    seen.count(501.0, [gateway.now()])
    assert seen.quantiles("m") == Quantiles(None, None)


def test_a_gateway_that_started_anew_counts_from_nothing() -> None:
    before, after, seen = Gateway(), Gateway(), RecentAnswers()
    before.answered("m", *[5.0] * 100)
    seen.count(0.0, [before.now()])
    after.answered("m", 0.05)
    seen.count(1.0, [after.now()])
    assert (seen.quantiles("m").p99_s or 9) < 0.1


def test_failures_are_those_of_the_last_five_minutes_over_all_gateways() -> None:
    one, two, seen = Gateway(), Gateway(), RecentAnswers()
    assert seen.failed("m") == 0
    one.figures.failures = [Failures("m", "engine_failed", 3), Failures("m", "cancelled", 1)]
    two.figures.failures = [Failures("m", "engine_failed", 1), Failures("other", "poison", 9)]
    seen.count(0.0, [one.now(), two.now()])
    assert (seen.failed("m"), seen.failed("other"), seen.failed("none")) == (4, 9, 0)
    two.figures.failures = [Failures("m", "engine_failed", 3)]
    seen.count(100.0, [one.now(), two.now()])
    assert seen.failed("m") == 2
    seen.count(500.0, [two.now()])
    assert seen.failed("m") == 3, "a gateway has started anew"
