"""docs/status.md has all fields that programs read of the status."""

from __future__ import annotations

import re
import typing

import msgspec
import pytest

from contract.messages import State
from contract.paths import ROOT
from contract.supervision.problem import Problem
from contract.supervision.routes import ModelRoutes
from contract.supervision.status import (
    ConfigStatus,
    ForeignProcess,
    GatewayStatus,
    GpuStatus,
    GpuWorker,
    ModelStatus,
    RedisStatus,
    RunStatus,
    SupervisorStatus,
    WorkerStatus,
)
from orchestrator.gpu.reservation import Stage

DOCUMENTED = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "status.md").read_text()))


@pytest.mark.parametrize(
    "part",
    [
        RunStatus,
        ConfigStatus,
        SupervisorStatus,
        GatewayStatus,
        RedisStatus,
        ModelStatus,
        ModelRoutes,
        WorkerStatus,
        GpuStatus,
        GpuWorker,
        ForeignProcess,
        Problem,
    ],
)
def test_every_field_is_documented(part: type[msgspec.Struct]) -> None:
    assert set(part.__struct_fields__) <= DOCUMENTED


def test_every_state_is_documented() -> None:
    assert {state.value for state in State} <= DOCUMENTED
    assert set(typing.get_args(Stage)) <= DOCUMENTED
