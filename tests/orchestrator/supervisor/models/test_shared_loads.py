"""Which host loads a model on demand, where several share one Redis."""

from __future__ import annotations

import time

import pytest

from contract.messages import Heartbeat, State
from orchestrator.supervisor.models.shared_loads import SharedLoads
from tests.orchestrator.simulated_host import SimulatedHost


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    host = SimulatedHost(monkeypatch, {"GPU-0": 16_000})
    host.loader.shared.is_shared = True
    return host


def asked(host: SimulatedHost) -> dict[str, bool]:
    return host.loader.shared.asks_for(host.loader.models, time.monotonic())


def grant(host: SimulatedHost, *models: str) -> None:
    host.loader.shared.observed(frozenset(models), {}, [], time.monotonic())


def test_a_model_is_loaded_once_it_is_granted(host: SimulatedHost) -> None:
    host.start("a", 4_000)
    host.turns(2)
    assert asked(host) == {}
    host.unfinished["a"] = 1
    host.turns(2)
    assert asked(host) == {"a": False}
    assert host.state("a-0") is State.STOPPED
    assert host.registration("a").is_elsewhere
    grant(host, "a")
    host.turns(3)
    assert host.state("a-0") is State.READY
    assert asked(host) == {"a": False}, "the grant is to be renewed while it is loaded"


def test_a_host_alone_asks_nobody(host: SimulatedHost) -> None:
    host.loader.shared.is_shared = False
    host.start("a", 4_000)
    host.unfinished["a"] = 1
    host.turns(4)
    assert asked(host) == {}
    assert host.state("a-0") is State.READY


def test_a_host_that_would_unload_another_model_leaves_it_to_others_at_first(
    host: SimulatedHost,
) -> None:
    host.start("large", 10_000)
    host.start("b", 10_000)
    host.unfinished["large"] = 1
    host.turns(1)
    grant(host, "large")
    host.turns(4)
    assert host.state("large-0") is State.READY
    host.unfinished["b"] = 1
    host.turns(1)
    assert "b" not in asked(host)
    host.turns(4)
    assert "b" in asked(host)


def test_the_operators_load_needs_no_grant(host: SimulatedHost) -> None:
    host.start("a", 4_000)
    host.turns(1)
    host.loader.load("a")
    host.turns(3)
    assert host.state("a-0") is State.READY


def test_the_grant_of_a_model_that_was_unloaded_is_given_back(host: SimulatedHost) -> None:
    host.start("a", 4_000)
    host.unfinished["a"] = 1
    host.turns(1)
    grant(host, "a")
    host.turns(3)
    host.unfinished["a"] = 0
    host.loader.unload("a")
    host.turns(3)
    assert asked(host) == {}


def test_a_request_hurries_the_next_look_once(host: SimulatedHost) -> None:
    host.start("a", 4_000)
    host.unfinished["a"] = 1
    host.turns(1)
    shared, models = host.loader.shared, host.loader.models
    assert shared.is_in_a_hurry(models)
    assert not shared.is_in_a_hurry(models)


def test_a_further_host_joins_where_jobs_wait_long_though_workers_serve() -> None:
    shared = SharedLoads()
    serves = Heartbeat("w", "a", "mock", "other", 1, State.READY)
    shared.observed(frozenset(), {"a": 3}, [serves], 100.0)
    assert not shared._joins("a", 109.0)
    shared.observed(frozenset(), {"a": 1}, [serves], 109.0)
    assert shared._joins("a", 110.0)
    shared.observed(frozenset(), {"a": 0}, [serves], 110.0)
    shared.observed(frozenset(), {"a": 1}, [serves], 111.0)
    assert not shared._joins("a", 120.0)


def test_no_host_joins_one_that_still_loads_the_model() -> None:
    shared = SharedLoads()
    loads = Heartbeat("w", "a", "mock", "other", 1, State.STARTING)
    shared.observed(frozenset(), {"a": 3}, [loads], 100.0)
    assert not shared._joins("a", 200.0)
