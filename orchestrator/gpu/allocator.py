"""The supervisor's interface to this package: which workers may start, with which GPUs and numbers.

The supervisor hands in what it sees (`observed`) and what happens (`start`, `ready`, `ended`);
nothing here starts or stops a process. Only `reserve` reads files, and nothing waits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from contract.engines import declaration_of
from contract.supervision.status import GpuStatus
from orchestrator.errors import UserError
from orchestrator.gpu.account import accounts
from orchestrator.gpu.attribution import GpuUse, attribute
from orchestrator.gpu.footprints import Footprints, footprints_path
from orchestrator.gpu.ledger import Ledger
from orchestrator.gpu.ledger_file import ledger_path
from orchestrator.gpu.nvml.snapshot import Snapshot, restricted
from orchestrator.gpu.placement import room_to_keep
from orchestrator.gpu.places import Demand, Device
from orchestrator.gpu.reservation import Reservation
from orchestrator.gpu.turns import Turns
from orchestrator.gpu.worker_needs import WorkerNeeds
from orchestrator.protocol.life import Phase
from orchestrator.protocol.specs import ReplicaSpec
from orchestrator.terminal.sizes import MIB

log = logging.getLogger(__name__)


class Allocation(NamedTuple):
    """The place of a worker that starts: fields of its `WorkerSpec`, and variables."""

    spec: dict[str, Any]
    environment: dict[str, str]


class GpuAllocator:
    """One per supervisor. Slots are those of `ReplicaSpec`."""

    def __init__(self) -> None:
        self._footprints = Footprints(footprints_path())
        self._ledger = Ledger(ledger_path(), self._footprints)
        self._uses: dict[str, GpuUse] = {}
        #: When the GPUs were last looked at, on the monotonic clock.
        self._seen_at: float | None = None
        self._problem = "the GPUs have not been looked at yet"

    @property
    def problem(self) -> str:
        """Why the account is not up to date; empty if it is. Where no GPU was ever seen, workers
        start all the same and their engines take what they take; else they wait."""
        return self._problem

    @property
    def has_looked(self) -> bool:
        """Whether it is known what GPUs there are; until then nothing should be started."""
        return self._seen_at is not None

    @property
    def is_unsettled(self) -> bool:
        """Whether memory is on its way to or from a worker, so that a close look is worth it."""
        return any(each.is_promised or each.is_moving for each in self._ledger.reservations)

    def observed(
        self, snapshot: Snapshot, families: Mapping[str, Collection[int]], taken_at: float = 0.0
    ) -> None:
        """The GPUs as they were from `taken_at` (monotonic) on, and the pids of each worker with
        all that it started."""
        self._problem = snapshot.problem or ("" if snapshot.gpus else "the driver shows no GPU")
        if snapshot.is_pending:
            return
        self._seen_at = taken_at
        if self._problem and self._uses:
            return
        visible = restricted(snapshot, os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._uses = attribute(visible, families)
        for notice in self._ledger.observe(self._uses):
            log.warning("%s", notice)

    def reserve(
        self, workers: Iterable[ReplicaSpec], later: Iterable[ReplicaSpec] = ()
    ) -> dict[str, UserError]:
        """Promise places to workers that shall be started, all at once, so that they share what
        there is. Room is left for those that may be loaded `later`. Returns why some cannot have
        a place."""
        wanted = list(workers)
        if not self._uses or not wanted:
            return {}
        needs, refused = self._needs.of_all(wanted)
        later_needs, _ = self._needs.of_all(later)
        kept = room_to_keep([need.demand(slot) for need, slot in later_needs], self.devices)
        refusals = self._ledger.reserve(needs, self._uses, kept).refusals
        return refused | {each.slot: each.error() for each in refusals}

    def demands(self, workers: Iterable[ReplicaSpec]) -> tuple[Demand, ...]:
        """Return what those of these workers demand that have no place yet, or sleep and need
        more to wake. Raises `UserError` if a model's files do not say."""
        if not self._uses:
            return ()
        found = []
        for worker in workers:
            own = self._slots.get(worker.slot)
            if own is None:
                need = self._needs.of(worker)
                found += [need.demand(worker.slot)] if need is not None else []
            elif own.phase is Phase.ASLEEP and not own.is_to_wake:
                found.append(own.demand_to_wake())
        return tuple(found)

    @property
    def devices(self) -> list[Device]:
        """The GPUs as places."""
        return self._ledger.devices(self._uses)

    @property
    def reservations(self) -> list[Reservation]:
        return self._ledger.reservations

    def load_s(self, worker: ReplicaSpec) -> float | None:
        """Return how long its model takes to load, if that was ever measured."""
        try:
            need = self._needs.of(worker) if self._uses else None
        except UserError:
            return None
        return need.footprint.load_s if need and need.footprint else None

    def bytes_beside_cache(self, slots: Iterable[str]) -> int:
        """Return what these workers have on all their GPUs, but for their KV caches."""
        held = (self._slots.get(slot) for slot in slots)
        return sum(each.bytes_beside_cache for each in held if each is not None)

    def lost_places(self) -> list[str]:
        """Return the workers that cannot have their places, as planned, when they start or wake."""
        return [] if self._problem else self._turns.lost()

    def obstacle(self, slot: str, moving: Collection[str] = ()) -> str | None:
        """Return what a worker has to wait for before it starts or wakes; None if nothing.
        `moving` are those whose memory is about to change."""
        if slot not in self._slots:
            return None
        return self._problem or self._turns.obstacle(slot, moving)

    def is_clear(self, slot: str, moving: Collection[str]) -> bool:
        """Return whether the memory of a worker may move now: that of no other on its GPUs does."""
        return self._turns.mover(slot, moving) is None

    def asleep(self) -> set[str]:
        """Return the workers that have only what they keep while they sleep."""
        held = self._ledger.reservations
        return {each.slot for each in held if each.phase is Phase.ASLEEP and not each.is_to_wake}

    def start(self, worker: ReplicaSpec) -> Allocation:
        """A worker is started now. Return its place, which is empty if it needs none."""
        reservation = self._slots.get(worker.slot)
        if reservation is None:
            return Allocation({}, {})
        self._ledger.start(worker.slot, self._uses)
        assignment = reservation.assignment
        has_slices = any(uuid.startswith("MIG-") for uuid in assignment.uuids)
        by_uuid = has_slices or declaration_of(worker.engine).sees_uuids(worker.version)
        return Allocation(assignment.numbers, assignment.environment(by_uuid=by_uuid))

    def settle(
        self,
        slot: str,
        phase: Phase,
        *,
        since: float,
        version: str = "",
        load_s: float = 0.0,
    ) -> bool:
        """A worker is ready, or sleeps, since then (monotonic): measure it. Return whether that
        could be done: not if the GPUs have not been looked at since."""
        own = self._slots.get(slot)
        if own is None or own.phase is phase:
            return True
        if self._seen_at is None or self._seen_at < since:
            return False
        own = self._ledger.settle(slot, phase, self._uses, version=version, load_s=load_s)
        used = {uuid: f"{size // MIB} MiB" for uuid, size in own.used_bytes.items()}
        asleep = " asleep" if phase is Phase.ASLEEP else ""
        log.info("%s has %s of GPU memory%s", slot, used, asleep)
        return True

    def cancel_wake(self, slot: str) -> None:
        """A worker that was to wake sleeps on."""
        self._ledger.cancel_wake(slot)

    def wake(self, slot: str) -> None:
        """A worker that sleeps is to wake: there is room for it."""
        self._ledger.wake(slot)

    def wakes(self, slot: str) -> None:
        """A worker wakes now."""
        self._ledger.wakes(slot)

    def ended(self, slot: str, *, returns: bool) -> None:
        """A worker has ended. If it `returns`, its place is kept for it."""
        self._ledger.end(slot, returns=returns)

    def adopt(self, running: Collection[str]) -> None:
        """These workers of a former supervisor still run."""
        self._ledger.adopt(running)

    def accounts(self) -> tuple[GpuStatus, ...]:
        """Return every GPU, as `status` shows it."""
        return accounts(self._uses, self._ledger.reservations)

    @property
    def _turns(self) -> Turns:
        return self._ledger.turns(self._uses)

    @property
    def _slots(self) -> dict[str, Reservation]:
        return {each.slot: each for each in self._ledger.reservations}

    @property
    def _needs(self) -> WorkerNeeds:
        return WorkerNeeds(self._uses, self._footprints)
