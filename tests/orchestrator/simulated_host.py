"""A supervisor's real fleet, loader and account of memory over processes, GPUs and a clock that
exist only here: what takes minutes on a host is a few turns of a loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from contract.bus.registration import Registration
from contract.messages import Heartbeat, State
from contract.process.process_table import Entry
from orchestrator.gpu.allocator import Allocation, GpuAllocator
from orchestrator.gpu.eviction import Policy
from orchestrator.gpu.nvml.snapshot import Gpu, GpuProcess, Snapshot
from orchestrator.protocol.specs import ReplicaSpec, UnitSpec
from orchestrator.supervisor.lost_workers import LostWorkers
from orchestrator.supervisor.models.loader import Loader
from orchestrator.supervisor.observation import Observation, Survey
from orchestrator.supervisor.units import exits as exits_module
from orchestrator.supervisor.units import fleet as fleet_module
from orchestrator.supervisor.units import spawner as spawner_module
from orchestrator.supervisor.units.fleet import Fleet
from orchestrator.supervisor.units.record import UnitRecord
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.process import Identity
from orchestrator.terminal.sizes import MIB

DRIVER_MIB = 600
KEPT_MIB = 50
_STRANGER_PID = 1


class SimulatedProcess:
    """A worker's process, or Valkey's. It does at the next turn what it was told, unless it is
    `busy` (then it drains) or `stuck`."""

    def __init__(self, pid: int, wanted: UnitSpec, name: str, uuids: list[str]) -> None:
        self.pid = pid
        self.spec = wanted
        self.name = name
        self.uuids = uuids
        self.identity = Identity(pid, 1, "boot", str(pid))
        self.started = time.monotonic()
        self.state = State.STARTING
        self.told: list[str] = []
        self.busy = 0
        self.stuck = False
        #: It gives no sign of life.
        self.mute = False
        self.jobs_total = 0
        self.is_alive = True
        self._on_exit: Callable[[], None] = lambda: None
        self._is_asleep_as_to_memory = False

    @property
    def mib(self) -> int:
        if not isinstance(self.spec, ReplicaSpec):
            return 0
        args = self.spec.spec["model"]["engine_args"]
        return int(args["asleep_mib" if self._is_asleep_as_to_memory else "allocate_mib"])

    def watch(self, on_exit: Callable[[], None]) -> None:
        self._on_exit = on_exit

    def turn(self) -> None:
        if self.stuck:
            return
        if self.busy and self.told:
            if self.told[-1] in ("terminate", "retire"):
                self.state = State.STOPPING
            return
        last = self.told[-1] if self.told else "start"
        self.told = []
        match last:
            case "terminate" | "retire":
                self.end()
            case "sleep":
                self.state, self._is_asleep_as_to_memory = State.SLEEPING, True
            case "wake":
                self.state, self._is_asleep_as_to_memory = State.READY, False
            case _ if self.state is State.STARTING:
                self.state = State.READY

    def end(self) -> None:
        self.is_alive = False
        self._on_exit()

    def terminate(self) -> None:
        self.told.append("terminate")

    def retire(self) -> None:
        self.told.append("retire")

    def sleep(self) -> None:
        self.told.append("sleep")

    def wake(self) -> None:
        self.told.append("wake")

    def kill(self) -> None:
        self.end()

    def sweep(self) -> list[int]:
        return []

    def close(self) -> None:
        """Nothing to let go of."""

    def remember(self, table: dict[int, Entry]) -> list[Entry]:
        return [Entry(self.pid, 1, 1, 1, 0, False, "worker")]

    def beat(self) -> Heartbeat:
        assert isinstance(self.spec, ReplicaSpec)
        return Heartbeat(
            self.name,
            self.spec.model,
            "mock",
            "here",
            self.pid,
            self.state,
            running=self.busy,
            jobs_total=self.jobs_total,
        )


class _Reaper:
    def exit_code(self, pid: int) -> int | None:
        return 1


class _Launcher:
    """Its commands are what is to be started."""

    log_bytes = 0

    def command(self, *start: Any) -> tuple[Any, ...]:
        return start


class SimulatedHost:
    """GPUs by their UUIDs, with their sizes in MiB."""

    def __init__(
        self, patch: pytest.MonkeyPatch, gpus: dict[str, int], policy: Policy | None = None
    ) -> None:
        self.gpus = gpus
        self.now = 1_700_000_000.0
        #: How far the host's clock was set forward; what has passed is `now`'s to say.
        self.clock_ahead_s = 0.0
        self.processes: list[SimulatedProcess] = []
        #: By GPU, what a process has that is not ours.
        self.strangers_mib: dict[str, int] = {}
        #: By model, the jobs that are not over.
        self.unfinished: dict[str, int] = {}
        self.is_redis_away = False
        #: Redis answers only that it cannot do what it is asked for.
        self.redis_refuses = False
        #: Whether the driver lists processes; in a container it may not.
        self.lists_processes = True
        self._policy = policy
        patch.setattr(time, "time", lambda: self.now + self.clock_ahead_s)
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(fleet_module, "Reaper", _Reaper)
        patch.setattr(spawner_module, "spawn", self._spawn)
        patch.setattr(spawner_module, "open_log", lambda path, largest_bytes: 0)
        patch.setattr(spawner_module, "adopt", self._adopt)
        patch.setattr(exits_module, "sweep_mark", lambda identity: None)
        patch.setattr(fleet_module, "kill_orphans", lambda known: [])
        self._connect_supervisor([])

    def replace_supervisor(self) -> None:
        """Another one takes over."""
        self._connect_supervisor([UnitRecord.of(unit) for unit in self.fleet.units.values()])

    def _connect_supervisor(self, records: list[UnitRecord]) -> None:
        self.allocator = GpuAllocator()
        self.allocator._ledger._clock = lambda: self.now
        self.lost_workers = LostWorkers()
        self.fleet = Fleet(
            _Launcher(),  # type: ignore[arg-type]
            lambda event: self.fleet.exits.exited(event),
            self.lost_workers,
            self.allocator,
        )
        self.loader = Loader(self.fleet, self.allocator, self._policy)
        self.fleet.take_over(records)
        self.loader.models.restore({})

    def start(
        self, model: str, mib: int, replicas: int = 1, kept_mib: int = KEPT_MIB, **settings: Any
    ) -> None:
        """`./ew start` of one model, loaded on demand unless its settings say otherwise."""
        config = {
            "engine": "mock",
            "model_path": "none",
            "load": "on-demand",
            "replicas": replicas,
            "engine_args": {"allocate_mib": mib, "asleep_mib": kept_mib},
            **settings,
        }
        spec = {"model_id": model, "engine": "mock", "env": "e", "model": config}
        workers = [
            ReplicaSpec(model, n, "mock", "e", "python", 60.0, spec) for n in range(replicas)
        ]
        for worker in workers:
            self.fleet.want(worker, self.now)
            self.unfinished.setdefault(model, 0)
        self.loader.models.started(workers)

    def changed(self, slot: str, **settings: Any) -> ReplicaSpec:
        """Return a worker's description with other settings of its model."""
        spec = self.unit(slot).spec
        assert isinstance(spec, ReplicaSpec)
        model = {**spec.spec["model"], **settings}
        return msgspec.structs.replace(spec, spec={**spec.spec, "model": model})

    def turns(self, count: int = 12) -> None:
        """So many seconds pass; what has to happen happens."""
        for _ in range(count):
            self.now += 1
            for process in self.processes:
                if process.is_alive:
                    process.turn()
            self._tend()
            self.fleet.surveyed(Survey(self.now, {}, self._snapshot()))
            self._tend()
            seen = self._observation()
            self.fleet.observed(seen)
            self.loader.models.observed(seen)
            self._tend()

    def unit(self, slot: str) -> Unit:
        return self.fleet.units[slot]

    def worker(self, slot: str) -> SimulatedProcess:
        process = self.unit(slot).process
        assert isinstance(process, SimulatedProcess), f"{slot} has no process"
        return process

    def state(self, slot: str) -> State:
        return self.unit(slot).state

    def states(self) -> dict[str, State]:
        return {slot: unit.state for slot, unit in self.fleet.units.items()}

    def registration(self, model: str) -> Registration:
        return self.loader.models.registrations()[model]

    def used_mib(self, uuid: str) -> int:
        ours = (p.mib for p in self.processes if p.is_alive and uuid in p.uuids)
        return DRIVER_MIB + self.strangers_mib.get(uuid, 0) + sum(ours)

    def _tend(self) -> None:
        self.loader.reconcile()
        self.fleet.reconcile(self.now)
        for uuid, size in self.gpus.items():
            assert self.used_mib(uuid) <= size, f"{uuid} is overfull"

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.now, tuple(self._gpu(n, uuid) for n, uuid in enumerate(self.gpus)))

    def _gpu(self, index: int, uuid: str) -> Gpu:
        used, total = self.used_mib(uuid), self.gpus[uuid]
        ours = [
            GpuProcess(each.pid, each.mib)
            for each in self.processes
            if each.is_alive and uuid in each.uuids
        ]
        strangers = self.strangers_mib.get(uuid)
        if not self.lists_processes:
            return Gpu(index, uuid, "card", total, used, total - used)
        listed = [*ours, *([GpuProcess(_STRANGER_PID, strangers)] if strangers else [])]
        return Gpu(index, uuid, "card", total, used, total - used, processes=tuple(listed))

    def _observation(self) -> Observation:
        nothing = Observation(self.now, None, "gone", {}, {}, {}, [], gateway_answers=True)
        if self.is_redis_away or self.redis_refuses:
            return nothing._replace(redis_answers=self.redis_refuses)
        alive = [each for each in self.processes if each.is_alive]
        workers = [each for each in alive if isinstance(each.spec, ReplicaSpec)]
        beats = {each.name: each.beat() for each in workers if not each.mute}
        return Observation(
            self.now, {}, "", beats, {}, dict(self.unfinished), [], gateway_answers=True
        )

    def _spawn(self, command: tuple[UnitSpec, str, Allocation], *_: Any) -> SimulatedProcess:
        wanted, name, allocation = command
        uuids = allocation.environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        process = SimulatedProcess(1000 + len(self.processes), wanted, name, uuids)
        self.processes.append(process)
        return process

    def _adopt(self, identity: Identity, started_at: float) -> SimulatedProcess | None:
        found = (each for each in self.processes if each.identity == identity and each.is_alive)
        process = next(found, None)
        if process is not None:
            process.watch(partial(_forget, process))
        return process


def _forget(process: SimulatedProcess) -> None:
    raise AssertionError(f"{process.name} ended and nobody watched")


def reserved_mib(host: SimulatedHost) -> dict[str, int]:
    """By slot, what is reserved on all GPUs."""
    return {
        each.slot: sum(each.reserved_bytes.values()) // MIB for each in host.allocator.reservations
    }
