"""Tokens per second out of a counter that is seen now and then."""

from __future__ import annotations

from orchestrator.supervisor.reporting.throughput import Throughput


def test_a_steady_counter_has_its_rate() -> None:
    throughput = Throughput()
    for second in range(30):
        throughput.count(float(second), 100 * (second // 3 * 3))
    assert 95 < throughput.per_second(29.0) < 105


def test_nothing_is_known_of_a_counter_seen_once() -> None:
    throughput = Throughput()
    throughput.count(0.0, 500)
    assert throughput.per_second(0.0) == 0


def test_a_counter_that_stands_still_has_stopped() -> None:
    throughput = Throughput()
    throughput.count(0.0, 0)
    throughput.count(1.0, 100)
    assert throughput.per_second(2.0) == 100
    assert throughput.per_second(8.0) == 0


def test_an_idle_hour_does_not_thin_out_what_comes_after() -> None:
    throughput = Throughput()
    for second in range(3600):
        throughput.count(float(second), 0)
    throughput.count(3602.0, 250)
    assert throughput.per_second(3602.0) > 25
