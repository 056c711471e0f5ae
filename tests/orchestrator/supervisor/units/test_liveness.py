"""Observations of a gateway: it is there, it is busy, or it is silent."""

from __future__ import annotations

import os
import socket
from typing import cast

import pytest

from contract.gateway_beat import GatewayBeat
from contract.messages import State
from orchestrator.protocol.specs import GatewaySpec
from orchestrator.supervisor.observation import Observation
from orchestrator.supervisor.units.liveness import take_note
from orchestrator.supervisor.units.patience import SILENT_FOR_S
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Process


class _Running:
    """As much of a process as signs look at."""

    pid = os.getpid()
    started = 0.0


@pytest.fixture
def unit() -> Unit:
    made = Unit(GatewaySpec("python", "127.0.0.1", 8080, 30.0))
    made.want(made.spec, 0.0)
    made.started(cast(Process, _Running()), "gateway", 0)
    take_note(made, seen(0.0, answers=True))
    assert made.state is State.READY
    return made


def seen(now: float, *beats: GatewayBeat, answers: bool = False) -> Observation:
    return Observation(now, {}, "", {}, {}, {}, list(beats), gateway_answers=answers)


def beat(count: int, **given: object) -> GatewayBeat:
    ours = {"host": socket.gethostname(), "pid": 1, "parent_pid": os.getpid()}
    return GatewayBeat(name="g", count=count, **{**ours, **given})  # type: ignore[arg-type]


def test_a_gateway_that_beats_is_busy_and_not_silent(unit: Unit) -> None:
    for second in range(60):
        take_note(unit, seen(second, beat(second // 2)))
    assert unit.overdue(60.0) == ""
    take_note(unit, seen(61.0, beat(31)))
    assert unit.stage == "busy"
    take_note(unit, seen(62.0, beat(31), answers=True))
    assert (unit.state, unit.stage) == (State.READY, "")


@pytest.mark.parametrize(
    "others", [{"host": "elsewhere"}, {"parent_pid": 1}, {"count": 7}], ids=str
)
def test_only_new_heartbeats_of_its_own_count(unit: Unit, others: dict[str, object]) -> None:
    for second in range(int(SILENT_FOR_S) + 3):
        take_note(unit, seen(second, beat(**{"count": second, **others})))  # type: ignore[arg-type]
    assert "no sign of life" in unit.overdue(SILENT_FOR_S + 3)
