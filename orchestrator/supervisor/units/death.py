"""Why a process has died, as far as its exit code, its log and the kernel tell."""

from __future__ import annotations

from contract.endings import CANNOT_SERVE, ENGINE_DIED
from contract.paths import COMMAND, log_path
from contract.supervision.problem import Problem
from orchestrator.protocol.diagnosis import (
    Diagnosis,
    count_memory_kills,
    describe_exit,
    diagnose,
    diagnose_unfit,
    read_tail,
    was_killed_for_memory,
)
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.unit import Unit


def diagnose_death(unit: Unit, dead: Child) -> Diagnosis:
    """Return why a process of this unit died, and whether another start would end the same way."""
    what = dead.kill_reason or describe_exit(dead.exit_code)
    if not dead.kill_reason and dead.exit_code in (-9, ENGINE_DIED) and _ran_out(dead):
        what = "was killed by the kernel, or its engine was: the memory was exhausted"
    tail = read_tail(log_path(unit.slot), dead.log_start)
    engine = unit.spec.engine if isinstance(unit.spec, ReplicaSpec) else "ENGINE"
    if dead.exit_code == CANNOT_SERVE and not dead.kill_reason:
        return diagnose_unfit(unit.slot, tail, engine=engine)
    return diagnose(f"{unit.slot} {what}", tail, engine=engine)


def diagnose_no_start(unit: Unit, error: OSError) -> Diagnosis:
    """Return why its process could not be started at all."""
    is_lasting = isinstance(error, FileNotFoundError | PermissionError)
    problem = Problem(f"{unit.slot} cannot be started: {error}", _repair(unit))
    return Diagnosis(problem, is_lasting)


def _repair(unit: Unit) -> str:
    """Return what brings back a program that cannot be executed."""
    if not isinstance(unit.spec, ReplicaSpec):
        return ""
    setup = f"`{COMMAND} setup --engine {unit.spec.engine}`"
    return f"is the environment `{unit.spec.env}` whole? {setup}"


def _ran_out(dead: Child) -> bool:
    """Return whether the kernel ended it, or a process of it, because memory was exhausted."""
    process = dead.process
    is_told = count_memory_kills() > dead.memory_kills
    return is_told or any(map(was_killed_for_memory, {process.pid, *process.family}))
