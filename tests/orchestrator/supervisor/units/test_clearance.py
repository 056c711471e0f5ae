"""Units that may be started before others are ready."""

from __future__ import annotations

import os

from orchestrator.gpu.allocator import GpuAllocator
from orchestrator.protocol.specs import GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec
from orchestrator.supervisor.units.clearance import Clearance
from orchestrator.supervisor.units.liveness import heard
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Identity, Process

WAITING = "waiting for valkey"


def wanted(spec: UnitSpec) -> Unit:
    unit = Unit(spec)
    unit.want(spec, 0.0)
    return unit


def test_a_gateway_starts_beside_valkey_and_workers_after_it() -> None:
    valkey = wanted(ValkeySpec())
    gateway = wanted(GatewaySpec("python", "127.0.0.1", 8080, 30.0))
    worker = wanted(ReplicaSpec("m", 0, "mock", ".venv", "python", 100.0, {}))
    units = {unit.slot: unit for unit in (valkey, gateway, worker)}
    clearance = Clearance(units, GpuAllocator())

    assert [clearance.obstacle(each) for each in (valkey, gateway, worker)] == [
        None,
        WAITING,
        WAITING,
    ], "valkey has no process"
    valkey.started(Process(Identity(os.getpid(), 0, "", ""), -1, 0.0), "valkey-abc", 0)
    assert [clearance.obstacle(each) for each in (gateway, worker)] == [None, WAITING]
    heard(valkey, 1.0, is_ready=True)
    assert clearance.obstacle(gateway) is None
    assert clearance.obstacle(worker) != WAITING
