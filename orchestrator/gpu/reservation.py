"""A reservation: the memory promised to one worker, and the memory it is measured to have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from orchestrator.gpu.attribution import GpuUse
from orchestrator.gpu.places import Assignment, Demand
from orchestrator.protocol.life import Phase

#: As the status shows it.
Stage: TypeAlias = Literal[
    "planned", "starting", "ready", "asleep", "wake_pending", "waking", "releasing"
]
_STAGES: Final[Mapping[Phase, Stage]] = {
    Phase.PENDING: "planned",
    Phase.STARTING: "starting",
    Phase.READY: "ready",
    Phase.ASLEEP: "asleep",
    Phase.WAKING: "waking",
    Phase.RELEASING: "releasing",
}


class Reservation(msgspec.Struct, frozen=True):
    """The place of one worker in the account. Bytes are by the UUID of the GPU.

    `phase` follows the worker's, once its memory was measured in it: PENDING until it is its turn
    to start, STARTING until it was measured when ready. While it is ASLEEP, all that is reserved
    is what it keeps, or its whole place once it is to wake (`is_to_wake`). It is RELEASING from
    its end until the driver shows its memory free again.
    """

    assignment: Assignment
    key: str
    engine: str
    phase: Phase
    #: Monotonic seconds: the same for all processes of one boot, and the account ends with it.
    since: float = 0.0
    #: The bytes of no known process just before the worker started: the driver's own.
    rest_bytes: dict[str, int] = {}
    used_bytes: dict[str, int] = {}
    #: Its processes that were seen on its GPUs.
    pids: frozenset[int] = frozenset()
    #: By estimate, what the first requests will add to what it has when it is ready.
    unseen_bytes: int = 0
    #: After its end it will start again in the same place.
    returns: bool = False
    #: While it is asleep, the place that it needs again when it wakes.
    awake: Assignment | None = None

    @property
    def slot(self) -> str:
        return self.assignment.slot

    @property
    def reserved_bytes(self) -> dict[str, int]:
        return self.assignment.bytes_by_gpu

    @property
    def bytes_beside_cache(self) -> int:
        """The bytes that it has on all its GPUs but for the KV cache."""
        cache = (self.assignment.kv_cache_bytes or 0) * len(self.reserved_bytes)
        return max(0, sum(self.used_bytes.values()) - cache)

    @property
    def lacking_bytes(self) -> dict[str, int]:
        """The bytes that it needs to wake beyond those that it has kept."""
        whole = self.awake.bytes_by_gpu if self.awake else {}
        return {uuid: max(0, size - self.reserved_bytes[uuid]) for uuid, size in whole.items()}

    def demand_to_wake(self) -> Demand:
        """Return what it needs to wake, where it is."""
        lacking = self.lacking_bytes
        return Demand(
            slot=self.slot,
            model=self.assignment.model,
            gpus=len(lacking),
            fixed_bytes=max(lacking.values(), default=0),
            pins=self.assignment.uuids,
        )

    @property
    def stage(self) -> Stage:
        return "wake_pending" if self.is_to_wake else _STAGES[self.phase]

    @property
    def is_to_wake(self) -> bool:
        """It sleeps, and its whole place is promised until it is its turn to wake."""
        return self.phase is Phase.ASLEEP and self.awake is None

    @property
    def is_moving(self) -> bool:
        """Memory is on its way to or from it."""
        return self.phase in (Phase.STARTING, Phase.WAKING, Phase.RELEASING)

    @property
    def is_promised(self) -> bool:
        """Its place is promised, and it is yet to take it."""
        return self.phase is Phase.PENDING or self.is_to_wake

    @property
    def stays(self) -> bool:
        """Whether its place is still its own."""
        return self.phase is not Phase.RELEASING or self.returns

    def promised_bytes(self, uuid: str) -> int:
        """Return what it has not taken yet of what was promised."""
        if uuid not in self.reserved_bytes or not self.stays:
            return 0
        return max(0, self.reserved_bytes[uuid] - self.used_bytes.get(uuid, 0))


def rest_of(use: GpuUse, others: Iterable[Reservation]) -> int:
    """Return what no known process has on a GPU: neither these workers nor processes that we can
    name."""
    ours = sum(measured(other, use) for other in others)
    named = sum(each.used_bytes or 0 for each in use.foreign if each.command)
    return use.used_bytes - ours - named


def measured(reservation: Reservation, use: GpuUse) -> int:
    """Return what a worker has on a GPU: by its processes, else as it was measured before."""
    listed = use.by_worker.get(reservation.slot)
    return reservation.used_bytes.get(use.gpu.uuid, 0) if listed is None else listed


def measure(
    reservation: Reservation, uses: Mapping[str, GpuUse], others: Iterable[Reservation]
) -> Reservation:
    """Measure a worker anew, by its processes.

    Where the driver does not list them (as in a container), a worker that starts or wakes has what
    came on top of what was in use before: nothing else starts or ends on its GPUs meanwhile.
    From then on its figure stays.
    """
    neighbours = list(others)
    used, pids = dict(reservation.used_bytes), set(reservation.pids)
    for uuid in reservation.reserved_bytes:
        use = uses.get(uuid)
        if use is None or use.gpu.problem:
            continue
        pids.update(use.worker_pids.get(reservation.slot, ()))
        listed = use.by_worker.get(reservation.slot)
        if listed is None and reservation.phase not in (Phase.READY, Phase.ASLEEP):
            on_top = rest_of(use, _on(uuid, neighbours)) - reservation.rest_bytes.get(uuid, 0)
            listed = max(0, on_top)
        if listed is not None:
            used[uuid] = listed
    return msgspec.structs.replace(reservation, used_bytes=used, pids=frozenset(pids))


def is_back_at_baseline(
    reservation: Reservation,
    uses: Mapping[str, GpuUse],
    others: Iterable[Reservation],
    tolerance_bytes: int,
) -> bool:
    """Return whether nothing is left of an ended worker: none of its processes is on a GPU, and
    no more is in use than before it started. A GPU that cannot be asked is taken at its word: it
    has nothing."""
    neighbours = list(others)
    for uuid in reservation.reserved_bytes:
        use = uses.get(uuid)
        if use is None or use.gpu.problem:
            continue
        before = reservation.rest_bytes.get(uuid, 0)
        if reservation.pids & use.pids:
            return False
        if rest_of(use, _on(uuid, neighbours)) > before + tolerance_bytes:
            return False
    return True


def _on(uuid: str, reservations: Iterable[Reservation]) -> list[Reservation]:
    return [each for each in reservations if uuid in each.reserved_bytes]
