"""The account of this host's GPU memory: what was promised to which worker, and what it really
takes.

A worker's memory is reserved before it starts, measured when it is ready, and given back only
when the driver shows it free again. The account is kept in a file, for the next supervisor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from orchestrator.gpu.attribution import GpuUse, describe_holders
from orchestrator.gpu.demand import Need
from orchestrator.gpu.footprints import Footprint, Footprints
from orchestrator.gpu.ledger_file import LedgerFile
from orchestrator.gpu.placement import place
from orchestrator.gpu.places import Device, Placement
from orchestrator.gpu.reservation import (
    Reservation,
    is_back_at_baseline,
    measure,
    rest_of,
)
from orchestrator.gpu.turns import Turns, holders_of
from orchestrator.protocol.life import Phase
from orchestrator.terminal.sizes import MIB

#: Kept free on each GPU, for what is not planned.
_HEADROOM_BYTES: Final = 256 * MIB
#: So close to what was in use before counts as the same.
_TOLERANCE_BYTES: Final = 128 * MIB
#: After that, what a worker left behind is on the account of the process that holds it.
RELEASE_WITHIN_S: Final = 30.0


class Ledger:
    """One writer, the supervisor; every method takes the lock, none blocks for long. `uses` is
    always the newest that is known of the GPUs, by UUID."""

    def __init__(
        self, path: Path, footprints: Footprints, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = LedgerFile(path)
        self._footprints = footprints
        self._clock = clock
        self._mutex = threading.RLock()
        self._held = {each.slot: each for each in self._file.read()}

    @property
    def reservations(self) -> list[Reservation]:
        with self._mutex:
            return list(self._held.values())

    def reserve(
        self,
        wanted: Iterable[tuple[Need, str]],
        uses: Mapping[str, GpuUse],
        keep_free: Mapping[str, int] | None = None,
    ) -> Placement:
        """Find places for these workers (a need and a slot each), and promise them. Those who
        have one keep it. Nothing is promised to those it refuses."""
        with self._mutex:
            needs = {slot: need for need, slot in wanted if slot not in self._held}
            placement = place(
                [need.demand(slot) for slot, need in needs.items()],
                self.devices(uses),
                at_work=self._at_work(),
                keep_free=keep_free,
            )
            for assignment in placement.assignments:
                need = needs[assignment.slot]
                self._held[assignment.slot] = Reservation(
                    assignment,
                    key=need.key,
                    engine=need.engine,
                    phase=Phase.PENDING,
                    since=self._clock(),
                    unseen_bytes=need.estimate.unseen_at_rest_bytes,
                )
            self._write()
            return placement

    def turns(self, uses: Mapping[str, GpuUse]) -> Turns:
        """Whose turn it is on the GPUs, by what is reserved now."""
        with self._mutex:
            return Turns(dict(self._held), uses)

    def start(self, slot: str, uses: Mapping[str, GpuUse]) -> None:
        """A worker starts now: remember what was in use before."""
        with self._mutex:
            own = self._held[slot]
            rest = {
                uuid: rest_of(uses[uuid], self._others_on(uuid, slot))
                for uuid in own.reserved_bytes
                if uuid in uses
            }
            self._enter(own, Phase.STARTING, rest_bytes=rest, used_bytes={}, pids=frozenset())

    def settle(
        self,
        slot: str,
        phase: Phase,
        uses: Mapping[str, GpuUse],
        *,
        version: str = "",
        load_s: float = 0.0,
    ) -> Reservation:
        """Measure a worker that is ready, or sleeps. Its memory after a start is remembered for
        the next one; while it sleeps, only the memory that it keeps stays reserved."""
        with self._mutex:
            own = self._held[slot]
            if phase is Phase.ASLEEP and own.phase is Phase.READY:
                # Measured anew, as at a start, also where the driver does not list processes.
                moving = msgspec.structs.replace(own, phase=Phase.WAKING)
                self._lie_down(measure(moving, uses, self._others(slot)))
            elif phase is Phase.READY and own.phase is not Phase.ASLEEP:
                # (A new supervisor takes it for awake, until it says that it sleeps.)
                is_new = own.phase is not Phase.WAKING
                self._enter(measure(own, uses, self._others(slot)), Phase.READY)
                if is_new:
                    self._learn(self._held[slot], version, load_s)
            return self._held[slot]

    def _learn(self, own: Reservation, version: str, load_s: float) -> None:
        used = _beside_cache(own)
        if used > 0:
            measurement = Footprint(
                engine=own.engine,
                version=version,
                ready_bytes=used,
                peak_bytes=used,
                unseen_bytes=own.unseen_bytes,
                load_s=load_s,
            )
            self._footprints.learn(own.key, measurement)

    def cancel_wake(self, slot: str) -> None:
        """A worker that was to wake sleeps on."""
        with self._mutex:
            own = self._held.get(slot)
            if own is not None and own.is_to_wake:
                self._lie_down(own)

    def wake(self, slot: str) -> None:
        """A worker that sleeps is to have its whole place again, when it is its turn."""
        with self._mutex:
            own = self._held.get(slot)
            if own is not None and own.awake is not None:
                self._enter(own, Phase.ASLEEP, assignment=own.awake, awake=None)

    def wakes(self, slot: str) -> None:
        """It takes its place now."""
        with self._mutex:
            own = self._held.get(slot)
            if own is not None and own.is_to_wake:
                self._enter(own, Phase.WAKING)

    def end(self, slot: str, *, returns: bool = False) -> None:
        """A worker has ended. Its memory stays on the account until it is free again; if it
        `returns`, its place stays its own, unless it was asleep and had given it back."""
        with self._mutex:
            own = self._held.get(slot)
            if own is None:
                return
            if own.phase is Phase.PENDING:
                if not returns:
                    self._drop(slot)
            elif returns and own.awake is None:
                self._enter(own, Phase.RELEASING, returns=True)
            else:
                self._retire(own)

    def observe(self, uses: Mapping[str, GpuUse]) -> list[str]:
        """Take note of what is in use now. Returns what an operator should read."""
        with self._mutex:
            notices = []
            for own in self.reservations:
                if own.phase is Phase.PENDING:
                    continue
                own = self._held[own.slot] = measure(own, uses, self._others(own.slot))
                if own.phase is Phase.READY:
                    self._footprints.saw(own.key, _beside_cache(own))
                elif own.phase is Phase.RELEASING:
                    notices.append(self._release(own, uses))
            return [notice for notice in notices if notice]

    def adopt(self, running: Collection[str]) -> None:
        """Take the account over from a former supervisor: these workers still run."""
        with self._mutex:
            for own in self.reservations:
                if own.slot not in running and own.phase is not Phase.RELEASING:
                    self.end(own.slot)

    def devices(self, uses: Mapping[str, GpuUse]) -> list[Device]:
        """Return the GPUs as places: what is free there and not promised."""
        with self._mutex:
            return [self._device(use) for use in uses.values()]

    def _device(self, use: GpuUse) -> Device:
        gpu = use.gpu
        here = self._others_on(gpu.uuid, "")
        promised = sum(each.promised_bytes(gpu.uuid) for each in here)
        return Device(
            uuid=gpu.uuid,
            index=gpu.index,
            name=gpu.name,
            total_bytes=use.total_bytes,
            free_bytes=max(0, use.free_bytes - promised - _HEADROOM_BYTES),
            holders=tuple(holders_of(use, here)),
            parent=gpu.parent,
            problem=gpu.problem,
        )

    def _release(self, own: Reservation, uses: Mapping[str, GpuUse]) -> str:
        """Give back what an ended worker had, if it is free. Returns what went wrong."""
        is_back = is_back_at_baseline(own, uses, self._others(own.slot), _TOLERANCE_BYTES)
        if not is_back and self._clock() - own.since < RELEASE_WITHIN_S:
            return ""
        if own.returns:
            self._enter(own, Phase.PENDING, returns=False, used_bytes={}, pids=frozenset())
        else:
            self._drop(own.slot)
        return "" if is_back else _explain_rest(own, uses)

    def _enter(self, own: Reservation, phase: Phase, **changes: object) -> None:
        changed = msgspec.structs.replace(own, phase=phase, since=self._clock(), **changes)
        self._held[changed.slot] = changed
        self._write()

    def _lie_down(self, own: Reservation) -> None:
        kept = {
            uuid: min(own.used_bytes.get(uuid, size), size)
            for uuid, size in own.reserved_bytes.items()
        }
        place = msgspec.structs.replace(own.assignment, bytes_by_gpu=kept)
        self._enter(own, Phase.ASLEEP, assignment=place, awake=own.assignment)

    def _retire(self, own: Reservation) -> None:
        """Its slot may be given a new place while the memory of its former one becomes free."""
        del self._held[own.slot]
        names = (f"{own.slot} (ended{number or ''})" for number in count())
        name = next(each for each in names if each not in self._held)
        assignment = msgspec.structs.replace(own.assignment, slot=name)
        self._enter(own, Phase.RELEASING, assignment=assignment, returns=False)

    def _drop(self, slot: str) -> None:
        del self._held[slot]
        self._write()

    def _others(self, slot: str) -> list[Reservation]:
        return [each for each in self._held.values() if each.slot != slot]

    def _others_on(self, uuid: str, slot: str) -> list[Reservation]:
        return [each for each in self._others(slot) if uuid in each.reserved_bytes]

    def _at_work(self) -> dict[str, list[str]]:
        models: dict[str, list[str]] = {}
        staying = (each for each in self._held.values() if each.stays)
        for each in staying:
            models.setdefault(each.assignment.model, []).extend(each.reserved_bytes)
        return models

    def _write(self) -> None:
        self._file.write(self._held.values())


def _beside_cache(own: Reservation) -> int:
    """Return what a worker has on its fullest GPU beside its KV cache."""
    return max(own.used_bytes.values(), default=0) - (own.assignment.kv_cache_bytes or 0)


def _explain_rest(own: Reservation, uses: Mapping[str, GpuUse]) -> str:
    """The holders of what an ended worker had."""
    found = []
    for uuid in own.reserved_bytes:
        use = uses.get(uuid)
        if use is None:
            continue
        ours = describe_holders(use, sorted(own.pids & use.pids))
        strangers = describe_holders(use, [each.pid for each in use.foreign])
        found.append(f"GPU {use.gpu.index}: {ours or strangers or 'no process that is visible'}")
    return (
        f"the GPU memory of `{own.slot}` is not free after {RELEASE_WITHIN_S:.0f} s: "
        + "; ".join(found)
    )
