"""Why a process has died, as far as its exit code, its log and the kernel tell."""

from __future__ import annotations

import signal
import time
from typing import Final

from msgspec.structs import replace

from contract.bus.records.worker_ends import WorkerEnd
from contract.endings import CANNOT_SERVE, ENGINE_DIED, ENGINE_HUNG, ENGINE_KILLED, EndedBy
from contract.paths import COMMAND, log_path
from contract.process.host_name import host_name
from contract.supervision.problem import Problem
from orchestrator.protocol.diagnosis import (
    Diagnosis,
    count_memory_kills,
    describe_exit,
    diagnose,
    diagnose_unfit,
    is_gpu_at_fault,
    is_own_signal,
    read_tail,
    was_killed_for_memory,
)
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.supervisor.units.child import Child
from orchestrator.supervisor.units.unit import Unit

_SUDDEN: Final = (-signal.SIGKILL, ENGINE_KILLED, ENGINE_DIED)


def ended_by(dead: Child) -> EndedBy:
    """Return what ended a worker, as far as it is known at once."""
    code = dead.exit_code
    if dead.kill_reason or code == ENGINE_HUNG or (code in _SUDDEN and _ran_out(dead)):
        return EndedBy.UNCLEAR
    is_own = code not in (None, 0, ENGINE_KILLED) and (code > 0 or is_own_signal(-code))
    return EndedBy.ITSELF if is_own and not is_gpu_at_fault() else EndedBy.OUTSIDE


def diagnose_death(unit: Unit, dead: Child) -> Diagnosis:
    """Return why a process of this unit died, and whether another start would end the same way."""
    what = dead.kill_reason or describe_exit(dead.exit_code)
    is_sudden = not dead.kill_reason and dead.exit_code in _SUDDEN
    ran_out = is_sudden and _ran_out(dead)
    if ran_out:
        what = "was killed by the kernel, or its engine was: the memory was exhausted"
    tail = read_tail(log_path(unit.slot), dead.log_start)
    engine = unit.spec.engine if isinstance(unit.spec, ReplicaSpec) else "ENGINE"
    if dead.exit_code == CANNOT_SERVE and not dead.kill_reason:
        return diagnose_unfit(unit.slot, tail, engine=engine)
    diagnosis = diagnose(f"{unit.slot} {what}", tail, engine=engine)
    return diagnosis._replace(out_of_memory=ran_out)


def end_of(dead: Child, engine: str, diagnosis: Diagnosis) -> WorkerEnd:
    """Return the end of a worker, to be kept for those who ask what became of its jobs."""
    return replace(
        told_end(dead, engine, diagnosis.problem.message),
        hint=diagnosis.problem.hint,
        out_of_memory=diagnosis.out_of_memory,
        gpus=dead.gpus_at_end,
    )


def told_end(dead: Child, engine: str, cause: str) -> WorkerEnd:
    """Return the end of a worker that needs no diagnosis: it was told to come to it."""
    ago_s = time.monotonic() - (dead.exited_at or time.monotonic())
    version = dead.beat.version if dead.beat is not None else ""
    return WorkerEnd(
        worker=dead.name,
        host=host_name(),
        unix_s=time.time() - ago_s,
        cause=cause,
        engine=f"{engine} {version}".strip(),
        exit_code=dead.exit_code,
    )


def missed_end(worker: str, engine: str) -> WorkerEnd:
    """Return the end of a worker that no supervisor saw."""
    cause = "ended while no supervisor ran"
    return WorkerEnd(worker, host_name(), time.time(), cause, engine)


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
