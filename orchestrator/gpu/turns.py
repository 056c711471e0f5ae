"""Whose turn it is to take memory on a GPU, and why it is not another's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchestrator.gpu.attribution import GpuUse
from orchestrator.gpu.places import Holder
from orchestrator.gpu.reservation import Reservation, measured
from orchestrator.protocol.life import Phase
from orchestrator.terminal.sizes import show


class Turns:
    """Of workers that have reservations (by slot), with what is in use on each GPU (by UUID)."""

    def __init__(self, held: Mapping[str, Reservation], uses: Mapping[str, GpuUse]) -> None:
        self._held = held
        self._uses = uses

    def obstacle(self, slot: str, moving: Collection[str] = ()) -> str | None:
        """Return why a worker that has a reservation cannot start or wake yet; None if it can.

        On one GPU starts come one after the other, and after the memory of what ended there is
        free: engines measure the free memory while they start. Where the driver does not list
        processes, a start also waits for the workers whose memory is `moving`: nothing would tell
        afterwards which worker took how much.
        """
        own = self._held[slot]
        if own.awake is not None:
            return "waiting for room to wake"
        turns = (self._predecessor_on(uuid, own) for uuid in own.reserved_bytes)
        mover = self.mover(slot, moving)
        moves = (f"the GPU memory of `{mover}` is on its way",) if mover else ()
        faults = (self._fault_of(uuid, own) for uuid in own.reserved_bytes)
        return next(filter(None, (*turns, *moves, *faults)), None)

    def mover(self, slot: str, moving: Collection[str]) -> str | None:
        """Return the slot of a worker whose memory changes on the GPUs of this one, where the
        driver does not list processes. If both changed at once, nothing would tell them apart."""
        own = self._held.get(slot)
        uuids = own.reserved_bytes if own is not None else {}
        movers = (self._mover_on(uuid, slot, moving) for uuid in uuids)
        return next((each for each in movers if each is not None), None)

    def lost(self) -> list[str]:
        """Return the slots whose place is lost before their workers took it: the GPU is in
        trouble, or another process has the memory. A worker that starts should be given another
        place; one that wakes has to stay where it is, asleep."""
        waiting = [each for each in self._held.values() if each.is_promised]
        return [
            each.slot
            for each in waiting
            if not any(self._predecessor_on(uuid, each) for uuid in each.reserved_bytes)
            and any(self._fault_of(uuid, each) for uuid in each.reserved_bytes)
        ]

    def _predecessor_on(self, uuid: str, own: Reservation) -> str | None:
        """Return whose start or end it has to wait for."""
        for other in self._others_on(uuid, own.slot):
            wakes_alone = other.phase is Phase.WAKING and own.phase is not Phase.WAKING
            if other.phase is Phase.STARTING or wakes_alone:
                return f"`{other.slot}` is {other.stage} on the same GPU"
            if other.phase is Phase.RELEASING:
                return f"the GPU memory of `{other.slot}` is not free yet"
        if own.phase is Phase.RELEASING:
            return "the GPU memory of its last run is not free yet"
        return None

    def _mover_on(self, uuid: str, slot: str, moving: Collection[str]) -> str | None:
        listed = self._uses[uuid].by_worker if uuid in self._uses else {}
        movers = (
            each.slot
            for each in self._others_on(uuid, slot)
            if (each.slot in moving or each.is_moving) and listed.get(each.slot) is None
        )
        return next(movers, None)

    def _fault_of(self, uuid: str, own: Reservation) -> str | None:
        """Return why its place cannot be had; None if it can."""
        use = self._uses.get(uuid)
        if use is None or use.gpu.problem:
            return f"GPU {uuid} {use.gpu.problem if use else 'is not there any more'}"
        lacking = own.promised_bytes(uuid) - use.free_bytes
        if lacking <= 0:
            return None
        holders = ", ".join(f"{each.name} {show(each.size_bytes)}" for each in holders_of(use, []))
        return f"GPU {use.gpu.index} lacks {show(lacking)}: {holders or 'nobody visible'} has it"

    def _others_on(self, uuid: str, slot: str) -> list[Reservation]:
        others = (each for each in self._held.values() if each.slot != slot)
        return [each for each in others if uuid in each.reserved_bytes]


def holders_of(use: GpuUse, reservations: Iterable[Reservation]) -> list[Holder]:
    """All that hold memory on a GPU, or have a promise of some."""
    uuid = use.gpu.uuid
    ours = [
        Holder(each.slot, measured(each, use) + each.promised_bytes(uuid)) for each in reservations
    ]
    strangers = [Holder(str(each), each.used_bytes or 0) for each in use.foreign]
    return [*ours, *strangers]
