"""The state of one process, moved by hand through time."""

from __future__ import annotations

import os

from contract.host_beat import HostBeat
from contract.messages import State
from orchestrator.protocol.life import Action, LifeEvent
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, ValkeySpec
from orchestrator.supervisor.reporting.prospects import with_prospects
from orchestrator.supervisor.units.liveness import heard, missed
from orchestrator.supervisor.units.patience import SILENT_FOR_S, start_timeout_s, stop_timeout_s
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Identity, Process


def unit_of(*, start_timeout_s: float = 100.0) -> Unit:
    wanted = ReplicaSpec("m", 0, "mock", ".venv", "python", start_timeout_s, {})
    unit = Unit(wanted)
    unit.want(wanted, 0.0)
    return unit


def started(unit: Unit, at: float = 0.0) -> Unit:
    unit.started(Process(Identity(os.getpid(), 0, "", ""), -1, at), "m-0-abc", 0)
    return unit


def test_it_goes_from_wanted_to_ready() -> None:
    unit = unit_of()
    assert unit.is_due(0.0)
    started(unit)
    assert (unit.state, unit.stage) == (State.STARTING, "starting")
    heard(unit, 1.0, is_ready=False, stage="loading")
    assert unit.stage == "loading"
    heard(unit, 9.0, is_ready=True)
    assert unit.state is State.READY
    assert unit.child and unit.child.ready_after_s == 9.0
    assert unit.overdue(1e9) == ""


def test_a_start_has_its_time() -> None:
    unit = started(unit_of(start_timeout_s=10), at=5.0)
    heard(unit, 6.0, is_ready=False, stage="loading")
    assert unit.overdue(14.9) == ""
    assert unit.overdue(15.0) == "was not ready after 10 s (loading)"


def test_silence_of_a_ready_worker_is_suffered_for_a_while() -> None:
    unit = started(unit_of())
    heard(unit, 1.0, is_ready=True)
    missed(unit, 100.0)
    assert unit.overdue(100.0 + SILENT_FOR_S) == ""
    assert "no sign of life" in unit.overdue(100.1 + SILENT_FOR_S)


def test_a_sign_of_life_ends_the_silence() -> None:
    unit = started(unit_of())
    heard(unit, 1.0, is_ready=True)
    missed(unit, 100.0)
    heard(unit, 110.0, is_ready=True)
    missed(unit, 111.0)
    assert unit.overdue(111.0 + SILENT_FOR_S) == ""
    assert unit.stage == "silent for 0 s"


def test_a_worker_that_still_loads_may_be_silent() -> None:
    unit = started(unit_of())
    missed(unit, 50.0)
    assert unit.overdue(99.0) == ""


def test_what_drains_has_more_time_than_what_never_was_ready() -> None:
    ready, loading = started(unit_of()), started(unit_of())
    heard(ready, 1.0, is_ready=True)
    for unit in (ready, loading):
        unit.unwant()
        unit.advance(LifeEvent.DUE, 10.0)
    assert "did not stop within 5 s" in loading.overdue(15.0)
    assert ready.overdue(49.0) == ""
    assert "did not stop within 40 s" in ready.overdue(50.0)


def test_the_gateway_may_drain_as_long_as_it_is_configured_to() -> None:
    gateway = GatewaySpec("python", "127.0.0.1", 1, 120.0)
    assert stop_timeout_s(gateway, drains=False) == 125.0
    assert start_timeout_s(ValkeySpec()) == 60.0


def test_an_unwanted_unit_without_a_process_is_stopped() -> None:
    unit = unit_of()
    unit.unwant()
    assert unit.state is State.STOPPED
    assert not unit.is_due(1e9)


def test_a_retry_waits_for_its_time() -> None:
    unit = started(unit_of())
    assert unit.ended(9.0) is Action.RETRY
    unit.retry(10.0, 4.0)
    assert not unit.is_due(13.9)
    assert unit.is_due(14.0)
    assert unit.restarts.count == 1


def test_one_who_is_killed_for_a_reason_is_not_killed_again() -> None:
    unit = started(unit_of(start_timeout_s=1))
    assert unit.child
    unit.child.kill_reason = "was not ready after 1 s"
    assert unit.overdue(100.0) == ""


def test_how_often_engines_stood_still_is_told_by_model() -> None:
    units = [unit_of(), unit_of(), unit_of()]
    units[0].restarts.hangs, units[1].restarts.hangs = 2, 1
    assert with_prospects(HostBeat("here"), units).hung == {"m": 3}
    units[0].restarts.hangs = units[1].restarts.hangs = 0
    assert with_prospects(HostBeat("here"), units).hung == {}


def test_a_model_that_rested_and_was_stopped_is_told_as_stopped() -> None:
    unit = unit_of()
    unit.park()
    assert with_prospects(HostBeat("here"), [unit]).coming == ("m",)
    unit.unwant()
    told = with_prospects(HostBeat("here"), [unit])
    assert (told.coming, told.ended) == ((), {"m": "it was stopped"})
