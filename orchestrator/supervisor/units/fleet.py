"""The units of this host: started when they should run, stopped when they should not, buried
and brought back when they died."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from contract.endings import CANNOT_SERVE, ENGINE_DIED, ENGINE_HUNG
from contract.messages import State
from contract.paths import COMMAND, as_called, log_path
from orchestrator.errors import UserError
from orchestrator.gpu.allocator import Allocation, GpuAllocator
from orchestrator.protocol.diagnosis import (
    Diagnosis,
    Problem,
    count_memory_kills,
    describe_exit,
    diagnose,
    diagnose_unfit,
    read_tail,
    was_killed_for_memory,
)
from orchestrator.protocol.specs import VALKEY, GatewaySpec, ReplicaSpec, UnitSpec, ValkeySpec
from orchestrator.supervisor.observer import Observation, Survey
from orchestrator.supervisor.units.launch import Launcher
from orchestrator.supervisor.units.liveness import take_note
from orchestrator.supervisor.units.unit import Unit, UnitRecord
from orchestrator.system.process import (
    Process,
    Reaper,
    adopt,
    kill_adopted,
    kill_descendants,
    kill_orphans,
    open_log,
    spawn,
    sweep_mark,
)

log = logging.getLogger(__name__)
_SWEEP_AGAIN_S: Final = 0.05
#: A process that SIGKILL does not end by then hangs in the kernel; nothing more can be done.
_SWEEP_FOR_S: Final = 10.0


class Exited(NamedTuple):
    """The process of a unit has ended."""

    unit: Unit
    process: Process


class Fleet:
    """All units by their slot. `on_exit` and `on_lost_worker` are called from the event loop."""

    def __init__(
        self,
        launcher: Launcher,
        on_exit: Callable[[Exited], None],
        on_lost_worker: Callable[[str, str], None],
        allocator: GpuAllocator,
    ) -> None:
        self.units: dict[str, Unit] = {}
        self.launcher = launcher
        self.allocator = allocator
        self.reaper = Reaper()
        #: Stop the gateway first, then workers, then Valkey, instead of each when asked.
        self.stops_in_order = False
        self._is_redis_away = False
        self._on_exit = on_exit
        self._on_lost_worker = on_lost_worker

    @property
    def workers(self) -> list[tuple[Unit, ReplicaSpec]]:
        """All units that are workers, with what each shall be."""
        return [
            (unit, unit.spec) for unit in self.units.values() if isinstance(unit.spec, ReplicaSpec)
        ]

    @property
    def is_idle(self) -> bool:
        return all(unit.process is None for unit in self.units.values())

    def want(self, spec: UnitSpec, now: float) -> Unit:
        """See that this runs. What runs already stays as it is."""
        unit = self.units.setdefault(spec.slot, Unit(spec))
        is_running = unit.process is not None and unit.is_desired
        if not is_running:
            unit.want(spec, now)
        return unit

    def replace(self, unit: Unit, spec: UnitSpec, now: float) -> None:
        """Let what runs be replaced, and lose nothing. A gateway that serves does it itself."""
        if isinstance(spec, GatewaySpec) and unit.process and unit.state is State.READY:
            unit.renew(spec, now)
            unit.process.replace()
        else:
            unit.replace(spec, now)

    def take_over(self, records: list[UnitRecord]) -> None:
        """Go on with the units of a supervisor that is gone."""
        now = time.monotonic()
        for record in records:
            unit = self.units.setdefault(record.spec.slot, Unit(record.spec))
            unit.restarts = record.restarts
            unit.is_desired = record.is_desired
            unit.is_parked = record.is_parked
            unit.rests_asleep = record.rests_asleep
            unit.problem = record.problem
            process = adopt(record.identity, record.started_at) if record.identity else None
            if process is not None:
                unit.adopted(process, record)
                process.watch(partial(self._on_exit, Exited(unit, process)))
                log.info("%s goes on, pid %d", unit.slot, process.pid)
            else:
                self._take_over_dead(unit, record, now)
        self.allocator.adopt([slot for slot, unit in self.units.items() if unit.process])
        self.sweep_orphans()

    def exited(self, event: Exited) -> None:
        unit, process = event
        if unit.process is process:
            unit.has_exited = True
            unit.exit_code = self.reaper.exit_code(process.pid)
            unit.deadline = time.monotonic() + _SWEEP_FOR_S
            if not unit.is_survived:
                process.sweep()
            if isinstance(unit.spec, ReplicaSpec):
                self._on_lost_worker(unit.spec.model, unit.name)

    def observed(self, seen: Observation) -> None:
        """Take note of signs of life."""
        self._is_redis_away = not seen.redis_answers
        for unit in self.units.values():
            is_current = unit.process is not None and unit.process.started <= seen.taken_at
            if is_current and not unit.has_exited:
                take_note(unit, seen)
                # Whoever looked has told the gateways first.
                unit.is_missable |= seen.redis is not None and seen.taken_at >= unit.replacement_at
                self._relieve_orphans(unit)
        for unit, worker in self.workers:
            if broken := seen.broken.get(worker.model):
                log.warning("%s: jobs were to blame for the end of %s", unit.slot, sorted(broken))
                unit.acquit(broken, time.monotonic())

    def _relieve_orphans(self, unit: Unit) -> None:
        if unit.process is not None and unit.orphans and unit.is_succeeded:
            log.info("%s has its place taken; its former processes leave", unit.slot)
            unit.process.relieve()
            unit.orphans = ""

    def surveyed(self, survey: Survey) -> None:
        """Take note of who belongs to whom, and of whose the GPUs' memory is."""
        families = {
            unit.slot: [entry.pid for entry in unit.process.remember(survey.table)]
            for unit in self.units.values()
            if unit.process is not None and not unit.has_exited
        }
        self.allocator.observed(survey.gpus, families, survey.taken_at)
        for unit, worker in self.workers:
            if unit.state is State.READY and not unit.is_measured:
                unit.is_measured = self.allocator.ready(
                    unit.slot,
                    since=unit.ready_at or 0.0,
                    version=worker.version,
                    load_s=unit.ready_after_s or 0.0,
                )
            elif unit.is_asleep and unit.shall_sleep and not unit.is_measured:
                unit.is_measured = self.allocator.slept(unit.slot, since=unit.ready_at or 0.0)

    def hurry(self, units: list[Unit]) -> None:
        """End them at once, whatever they are about. The gateway tells its clients first, and
        needs Valkey for that."""
        now = time.monotonic()
        for unit in units:
            if unit.process is None or unit.has_exited:
                continue
            if isinstance(unit.spec, GatewaySpec) and unit.ready_at is not None:
                unit.hurrying(now)
                unit.process.hurry()
            elif not isinstance(unit.spec, ValkeySpec) or unit.state is State.STOPPING:
                self._kill(unit, "is stopped at once")

    def sweep_orphans(self) -> None:
        """Kill what carries the mark of this state directory and belongs to no unit: what a
        supervisor started in the moment in which it was killed itself."""
        orphans = kill_orphans(unit.mark for unit in self.units.values())
        if orphans:
            log.warning("killed processes that nobody had the care of: %s", orphans)

    def sweep_descendants(self) -> None:
        """Kill what the units left behind without any mark, once none of them runs."""
        if self.is_idle and (left := kill_descendants()):
            log.warning("killed processes that had thrown their marks away: %s", left)

    def reconcile(self, now: float) -> None:
        """Do what is due."""
        for unit in self.units.values():
            reason = unit.overdue(now)
            if reason:
                self._kill(unit, reason)
            if unit.has_exited:
                self._reap(unit, now)
            elif unit.process is not None and (
                self._is_to_stop(unit) or self._is_to_be_replaced(unit)
            ):
                self._stop(unit, unit.process, now)
            elif unit.process is not None and unit.is_to_fall_asleep and self._may_move(unit):
                log.info("%s is put to sleep", unit.slot)
                unit.falling_asleep(now)
                unit.process.sleep()
            elif unit.process is not None and unit.shall_run and unit.is_asleep:
                self._wake_if_possible(unit, unit.process, now)
            elif unit.is_due(now):
                self._start_if_possible(unit)

    def next_deadline(self) -> float | None:
        """When `reconcile` has something to do next, if nothing happens before."""
        times = [at for unit in self.units.values() for at in self._deadlines(unit)]
        return min(times, default=None)

    def _deadlines(self, unit: Unit) -> list[float]:
        if unit.has_exited:
            return [time.monotonic() + _SWEEP_AGAIN_S]
        times = [] if unit.deadline is None or unit.kill_reason else [unit.deadline]
        if unit.is_waiting and not unit.obstacle:
            times.append(unit.start_at)
        return times

    def _is_to_stop(self, unit: Unit) -> bool:
        if not unit.is_to_stop or (unit.is_desired and not self._may_move(unit)):
            return False
        return not self.stops_in_order or not any(
            other.process is not None and _rank(other) < _rank(unit)
            for other in self.units.values()
        )

    def _is_to_be_replaced(self, unit: Unit) -> bool:
        """One after another, and only when jobs may wait for its model."""
        if not (unit.is_to_be_replaced and unit.is_missable and self._may_move(unit)):
            return False
        return not any(
            other.state in (State.STARTING, State.STOPPING)
            for other in self._siblings(unit)
            if other is not unit and other.is_desired
        )

    def _siblings(self, unit: Unit) -> list[Unit]:
        spec = unit.spec
        if not isinstance(spec, ReplicaSpec):
            return [unit]
        return [other for other, worker in self.workers if worker.model == spec.model]

    def _may_move(self, unit: Unit) -> bool:
        """Whether its memory may leave its GPUs now, so that all can be measured afterwards."""
        return not self.allocator.unclear(unit.slot, self._moving())

    def _moving(self) -> set[str]:
        return {unit.slot for unit, _ in self.workers if unit.is_moving_memory}

    def _stop(self, unit: Unit, process: Process, now: float) -> None:
        unit.stopping(now)
        log.info("%s is asked to %s", unit.slot, "leave" if unit.is_retiring else "stop")
        if isinstance(unit.spec, GatewaySpec):
            process.hurry_predecessors()
        if unit.is_retiring:
            process.retire()
        else:
            process.terminate()

    def _start_if_possible(self, unit: Unit) -> None:
        obstacle = self._obstacle(unit)
        if obstacle:
            unit.hold_up(obstacle)
            return
        try:
            self._start(unit)
        except UserError as error:
            self._failed_to_start(
                unit, Problem(error.message, as_called(error.hint)), is_lasting=True
            )
        except OSError as error:
            is_lasting = isinstance(error, FileNotFoundError | PermissionError)
            problem = Problem(f"{unit.slot} cannot be started: {error}", _repair(unit))
            self._failed_to_start(unit, problem, is_lasting=is_lasting)

    def _wake_if_possible(self, unit: Unit, process: Process, now: float) -> None:
        obstacle = self._obstacle(unit)
        if obstacle:
            unit.enter(State.SLEEPING, obstacle)
            return
        log.info("%s is woken", unit.slot)
        unit.waking(now)
        self.allocator.wakes(unit.slot)
        process.wake()

    def _obstacle(self, unit: Unit) -> str:
        """Why a unit that is due cannot be started or woken; empty if it can."""
        valkey = self.units.get(VALKEY)
        if valkey is not None and valkey is not unit and valkey.state is not State.READY:
            return "waiting for valkey"
        if not isinstance(unit.spec, ReplicaSpec):
            return ""
        if valkey is None and self._is_redis_away:
            return "waiting for Redis, which does not answer"
        if not self.allocator.has_looked:
            return "looking at the GPUs"
        return unit.no_place or self.allocator.obstacle(unit.slot, self._moving())

    def _start(self, unit: Unit) -> None:
        name = f"{unit.slot}-{secrets.token_hex(3)}"
        path = log_path(unit.slot)
        allocation = self._allocation(unit)
        command = self.launcher.command(unit.spec, name, allocation)
        log_start = open_log(path)
        process = spawn(command, path, self.reaper, unit.orphans)
        unit.started(process, name, log_start)
        process.watch(partial(self._on_exit, Exited(unit, process)))
        log.info("%s starts as %s, pid %d", unit.slot, name, process.pid)

    def _allocation(self, unit: Unit) -> Allocation:
        """Its place on the GPUs."""
        if not isinstance(unit.spec, ReplicaSpec):
            return Allocation({}, {})
        return self.allocator.start(unit.spec)

    def _take_over_dead(self, unit: Unit, record: UnitRecord, now: float) -> None:
        if record.identity is not None:
            unit.state = record.state
            if unit.is_survived:
                unit.orphans = record.identity.mark
            else:
                sweep_mark(record.identity)
            if isinstance(unit.spec, ReplicaSpec):
                self._on_lost_worker(unit.spec.model, record.name)
        if record.is_desired and record.is_parked and record.state is not State.FAILED:
            unit.park()
        elif record.is_desired and record.state is not State.FAILED:
            unit.want(record.replacement or record.spec, now)
        else:
            unit.enter(record.state if record.is_desired else State.STOPPED)

    def _kill(self, unit: Unit, reason: str) -> None:
        log.warning("%s %s; it is killed", unit.slot, reason)
        unit.kill_reason = reason
        if unit.process is not None:
            unit.process.kill()

    def _reap(self, unit: Unit, now: float) -> None:
        process = unit.process
        if process is None:
            return
        left = [] if unit.is_survived else process.sweep() + self._sweep_adopted(unit)
        if left and unit.deadline is not None and now < unit.deadline:
            return
        if left:
            log.error("%s leaves processes that cannot be killed: %s", unit.slot, left)
        process.close()
        unit.has_exited = False
        unit.ended()
        self._settle(unit, process, now)
        self.allocator.ended(unit.slot, returns=unit.is_waiting)

    def _sweep_adopted(self, dead: Unit) -> list[int]:
        """What a dead worker left without any mark: all other orphans are with their workers."""
        if not isinstance(dead.spec, ReplicaSpec):
            return []
        return kill_adopted({each.process.pid for each in self.units.values() if each.process})

    def _settle(self, unit: Unit, process: Process, now: float) -> None:
        """Decide what becomes of a unit whose process is gone."""
        if not unit.is_desired:
            unit.enter(State.STOPPED)
            log.info("%s has stopped", unit.slot)
        elif unit.is_parked:
            unit.park()
            log.info("%s was unloaded", unit.slot)
        elif unit.state is State.STOPPING:
            unit.want(unit.spec, now)
        else:
            self._died(unit, process, now)

    def _died(self, unit: Unit, process: Process, now: float) -> None:
        problem, is_lasting = _diagnose(unit, process)
        unit.hangs += unit.exit_code == ENGINE_HUNG
        if unit.ready_at is None:
            self._failed_to_start(unit, problem, is_lasting=is_lasting)
        else:
            wait_s = unit.history.died(now, up_s=now - unit.ready_at, name=unit.name)
            self._retry_or_give_up(unit, problem, wait_s)

    def _failed_to_start(self, unit: Unit, problem: Problem, *, is_lasting: bool) -> None:
        wait_s = None if is_lasting else unit.history.died(time.monotonic(), up_s=None)
        self._retry_or_give_up(unit, problem, wait_s)

    def _retry_or_give_up(self, unit: Unit, problem: Problem, wait_s: float | None) -> None:
        unit.problem = problem
        if wait_s is None:
            unit.fail(problem)
            log.error("%s; it is given up", problem.message)
        else:
            unit.retry(time.monotonic(), wait_s)
            log.warning("%s; again in %.1f s", problem.message, wait_s)


def _rank(unit: Unit) -> int:
    match unit.spec:
        case GatewaySpec():
            return 0
        case ReplicaSpec():
            return 1
        case ValkeySpec():
            return 2


def _repair(unit: Unit) -> str:
    """What brings back a program that cannot be executed."""
    if not isinstance(unit.spec, ReplicaSpec):
        return ""
    setup = f"`{COMMAND} setup --engine {unit.spec.engine}`"
    return f"is the environment `{unit.spec.env}` whole? {setup}"


def _ran_out(unit: Unit, process: Process) -> bool:
    """Whether the kernel ended it, or a process of it, because memory was exhausted."""
    is_told = count_memory_kills() > unit.memory_kills
    return is_told or any(map(was_killed_for_memory, {process.pid, *process.family}))


def _diagnose(unit: Unit, process: Process) -> Diagnosis:
    what = unit.kill_reason or describe_exit(unit.exit_code)
    if not unit.kill_reason and unit.exit_code in (-9, ENGINE_DIED) and _ran_out(unit, process):
        what = "was killed by the kernel, or its engine was: the memory was exhausted"
    tail = read_tail(log_path(unit.slot), unit.log_start)
    engine = unit.spec.engine if isinstance(unit.spec, ReplicaSpec) else "ENGINE"
    if unit.exit_code == CANNOT_SERVE and not unit.kill_reason:
        return diagnose_unfit(unit.slot, tail, engine=engine)
    return diagnose(f"{unit.slot} {what}", tail, engine=engine)
