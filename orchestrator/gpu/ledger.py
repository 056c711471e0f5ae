"""The account of this host's GPU memory: what was promised to whom, and what it really takes.

A worker's memory is reserved before it starts, measured when it is ready, and given back only
when the driver shows it free again. The account is kept in a file, for the next supervisor.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from contract.messages import UNREADABLE
from contract.paths import state_dir
from orchestrator.gpu.attribution import GpuUse, describe_holders
from orchestrator.gpu.demand import Need
from orchestrator.gpu.footprints import Footprint, Footprints
from orchestrator.gpu.placement import place
from orchestrator.gpu.places import Device, Holder, Placement
from orchestrator.gpu.reservation import (
    Reservation,
    is_back_at_baseline,
    measure,
    measured,
    rest_of,
)
from orchestrator.system.files import write_atomically
from orchestrator.system.process_table import boot_id
from orchestrator.terminal.sizes import MIB, show

log = logging.getLogger(__name__)
#: Kept free on each GPU, for what nobody plans.
_HEADROOM_BYTES: Final = 256 * MIB
#: So close to what was in use before counts as the same.
_TOLERANCE_BYTES: Final = 128 * MIB
#: After that, what a worker left behind is on the account of whoever holds it.
RELEASE_WITHIN_S: Final = 30.0


def ledger_path() -> Path:
    return state_dir() / "ledger.json"


class LedgerFile(msgspec.Struct, frozen=True):
    """What is on disk. After another boot none of it holds."""

    boot_id: str
    reservations: list[Reservation]


class Ledger:
    """One writer, the supervisor; every method takes the lock, none blocks for long. `uses` is
    always the newest that is known of the GPUs, by UUID."""

    def __init__(
        self, path: Path, footprints: Footprints, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._footprints = footprints
        self._clock = clock
        self._lock = threading.RLock()
        self._held = {each.slot: each for each in read_reservations(path)}
        #: What the file says, as far as this supervisor has written it.
        self._written = b""

    @property
    def reservations(self) -> list[Reservation]:
        with self._lock:
            return list(self._held.values())

    def reserve(
        self,
        wanted: Iterable[tuple[Need, str]],
        uses: Mapping[str, GpuUse],
        keep_free: Mapping[str, int] | None = None,
    ) -> Placement:
        """Find places for these workers (a need and a slot each), and promise them. Those who
        have one keep it. Nothing is promised to whom it refuses."""
        with self._lock:
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
                    stage="planned",
                    since=self._clock(),
                    unseen_bytes=need.estimate.unseen_at_rest_bytes,
                )
            self._write()
            return placement

    def obstacle(self, slot: str, uses: Mapping[str, GpuUse], moving: Collection[str] = ()) -> str:
        """Why a worker that has a reservation cannot start yet; empty if it can. On one GPU
        starts come one after the other, and after what ended there is gone: engines measure the
        free memory while they start. Where the driver does not list processes, it has to wait
        also for those whose memory is `moving`: whose is what could not be told afterwards."""
        with self._lock:
            own = self._held[slot]
            turns = (self._predecessor_on(uuid, own) for uuid in own.reserved_bytes)
            moves = (self.unclear(slot, uses, moving),)
            faults = (self._fault_of(uuid, own, uses) for uuid in own.reserved_bytes)
            return next(filter(None, (*turns, *moves, *faults)), "")

    def unclear(self, slot: str, uses: Mapping[str, GpuUse], moving: Collection[str]) -> str:
        """Whose memory is on its way on the GPUs of a worker, where the driver does not list
        processes; empty if there is nobody. If its own moved meanwhile, whose is what could not
        be told."""
        with self._lock:
            own = self._held.get(slot)
            uuids = own.reserved_bytes if own is not None else {}
            return next(filter(None, (self._mover_on(u, slot, uses, moving) for u in uuids)), "")

    def lost(self, uses: Mapping[str, GpuUse]) -> list[str]:
        """Whose place is not there any more, before they took it: the GPU is in trouble, or
        somebody else has the memory. Who starts should be given another; who wakes has to stay
        where it is, asleep."""
        with self._lock:
            stages = ("planned", "wake_pending")
            waiting = [each for each in self._held.values() if each.stage in stages]
            return [
                each.slot
                for each in waiting
                if not any(self._predecessor_on(uuid, each) for uuid in each.reserved_bytes)
                and any(self._fault_of(uuid, each, uses) for uuid in each.reserved_bytes)
            ]

    def start(self, slot: str, uses: Mapping[str, GpuUse]) -> None:
        """A worker starts now: remember what was in use before."""
        with self._lock:
            own = self._held[slot]
            rest = {
                uuid: rest_of(uses[uuid], self._others_on(uuid, slot))
                for uuid in own.reserved_bytes
                if uuid in uses
            }
            self._enter(own, "starting", rest_bytes=rest, used_bytes={}, pids=frozenset())

    def ready(
        self, slot: str, uses: Mapping[str, GpuUse], *, version: str, load_s: float
    ) -> Reservation:
        """A worker is ready: measure it, and remember that for its next start."""
        with self._lock:
            if self._held[slot].stage in ("asleep", "wake_pending"):
                # A new supervisor took it for awake, until it says that it sleeps.
                return self._held[slot]
            is_new = self._held[slot].stage != "waking"
            own = measure(self._held[slot], uses, self._others(slot))
            self._enter(own, "ready")
            used = _beside_cache(own)
            if used > 0 and is_new:
                measurement = Footprint(
                    engine=own.engine,
                    version=version,
                    ready_bytes=used,
                    peak_bytes=used,
                    unseen_bytes=own.unseen_bytes,
                    load_s=load_s,
                )
                self._footprints.learn(own.key, measurement)
            return self._held[slot]

    def sleep(self, slot: str, uses: Mapping[str, GpuUse]) -> Reservation:
        """A worker sleeps: what it has kept is all that it still has, and is reserved."""
        with self._lock:
            own = self._held[slot]
            if own.stage == "ready":
                # Measured anew, as at a start, also where the driver does not list processes.
                moving = msgspec.structs.replace(own, stage="waking")
                self._lie_down(measure(moving, uses, self._others(slot)))
            return self._held[slot]

    def cancel_wake(self, slot: str) -> None:
        """A worker that was to wake sleeps on."""
        with self._lock:
            if self._held[slot].stage == "wake_pending":
                self._lie_down(self._held[slot])

    def wake(self, slot: str) -> None:
        """A worker that sleeps is to have its whole place again, when it is its turn."""
        with self._lock:
            own = self._held[slot]
            if own.awake is not None:
                self._enter(own, "wake_pending", assignment=own.awake, awake=None)

    def wakes(self, slot: str) -> None:
        """It takes its place now."""
        with self._lock:
            if self._held[slot].stage == "wake_pending":
                self._enter(self._held[slot], "waking")

    def end(self, slot: str, *, returns: bool = False) -> None:
        """A worker has ended. Its memory stays on the account until it is free again; if it
        `returns`, its place stays its own."""
        with self._lock:
            own = self._held.get(slot)
            if own is None:
                return
            if own.stage == "planned":
                if not returns:
                    self._drop(slot)
            elif returns:
                self._enter(own, "releasing", returns=True)
            else:
                self._retire(own)

    def observe(self, uses: Mapping[str, GpuUse]) -> list[str]:
        """Take note of what is in use now. Answers what an operator should read."""
        with self._lock:
            notices = []
            for own in self.reservations:
                if own.stage == "planned":
                    continue
                own = self._held[own.slot] = measure(own, uses, self._others(own.slot))
                if own.stage == "ready":
                    self._footprints.saw(own.key, _beside_cache(own))
                elif own.stage == "releasing":
                    notices.append(self._settle(own, uses))
            return [notice for notice in notices if notice]

    def adopt(self, running: Collection[str]) -> None:
        """Take the account over from a former supervisor: these workers still run."""
        with self._lock:
            for own in self.reservations:
                if own.slot not in running and own.stage != "releasing":
                    self.end(own.slot)

    def devices(self, uses: Mapping[str, GpuUse]) -> list[Device]:
        """The GPUs as places: what is free there and not promised to anybody."""
        with self._lock:
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
            holders=tuple(_holders(use, here)),
            parent=gpu.parent,
            problem=gpu.problem,
        )

    def _predecessor_on(self, uuid: str, own: Reservation) -> str:
        """Whose start or end it has to wait for."""
        for other in self._others_on(uuid, own.slot):
            if other.stage == "starting" or (other.stage == "waking" and own.stage != "waking"):
                return f"`{other.slot}` is {other.stage} on the same GPU"
            if other.stage == "releasing":
                return f"the GPU memory of `{other.slot}` is not free yet"
        if own.stage == "releasing":
            return "the GPU memory of its last run is not free yet"
        return ""

    def _mover_on(
        self, uuid: str, slot: str, uses: Mapping[str, GpuUse], moving: Collection[str]
    ) -> str:
        """Whose memory is on its way on a GPU, as far as the driver does not tell."""
        listed = uses[uuid].by_worker if uuid in uses else {}
        movers = (
            each.slot
            for each in self._others_on(uuid, slot)
            if (each.slot in moving or each.stage in ("starting", "waking", "releasing"))
            and listed.get(each.slot) is None
        )
        return next((f"the GPU memory of `{slot}` is on its way" for slot in movers), "")

    def _fault_of(self, uuid: str, own: Reservation, uses: Mapping[str, GpuUse]) -> str:
        """Why its place cannot be had."""
        use = uses.get(uuid)
        if use is None or use.gpu.problem:
            return f"GPU {uuid} {use.gpu.problem if use else 'is not there any more'}"
        lacking = own.promised_bytes(uuid) - use.free_bytes
        if lacking <= 0:
            return ""
        holders = ", ".join(f"{each.name} {show(each.size_bytes)}" for each in _holders(use, []))
        return f"GPU {use.gpu.index} lacks {show(lacking)}: {holders or 'nobody visible'} has it"

    def _settle(self, own: Reservation, uses: Mapping[str, GpuUse]) -> str:
        """Give back what an ended worker had, if it is free. Answers what went wrong."""
        is_back = is_back_at_baseline(own, uses, self._others(own.slot), _TOLERANCE_BYTES)
        if not is_back and self._clock() - own.since < RELEASE_WITHIN_S:
            return ""
        if own.returns:
            self._enter(own, "planned", returns=False, used_bytes={}, pids=frozenset())
        else:
            self._drop(own.slot)
        return "" if is_back else _explain_rest(own, uses)

    def _enter(self, own: Reservation, stage: str, **changes: object) -> None:
        changed = msgspec.structs.replace(own, stage=stage, since=self._clock(), **changes)
        self._held[changed.slot] = changed
        self._write()

    def _lie_down(self, own: Reservation) -> None:
        kept = {
            uuid: min(own.used_bytes.get(uuid, size), size)
            for uuid, size in own.reserved_bytes.items()
        }
        place = msgspec.structs.replace(own.assignment, bytes_by_gpu=kept)
        self._enter(own, "asleep", assignment=place, awake=own.assignment)

    def _retire(self, own: Reservation) -> None:
        """Its slot may be given a new place while the memory of its former one becomes free."""
        del self._held[own.slot]
        names = (f"{own.slot} (ended{number or ''})" for number in count())
        name = next(each for each in names if each not in self._held)
        assignment = msgspec.structs.replace(own.assignment, slot=name)
        self._enter(own, "releasing", assignment=assignment, returns=False)

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
        content = msgspec.json.encode(LedgerFile(boot_id(), list(self._held.values())))
        if content == self._written:
            return
        try:
            write_atomically(self._path, content)
            self._written = content
        except OSError as error:
            log.error("the account of GPU memory cannot be written down: %s", error)


def read_reservations(path: Path) -> list[Reservation]:
    """What the account says; empty if there is none, or it is from before the last boot."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=LedgerFile)
    except FileNotFoundError:
        return []
    except UNREADABLE as error:
        log.warning("%s cannot be read, GPU memory is accounted for anew: %s", path, error)
        return []
    return content.reservations if content.boot_id == boot_id() else []


def _beside_cache(own: Reservation) -> int:
    """What a worker has on its fullest GPU beside its KV cache."""
    return max(own.used_bytes.values(), default=0) - (own.assignment.kv_cache_bytes or 0)


def _holders(use: GpuUse, reservations: Iterable[Reservation]) -> list[Holder]:
    """Everybody with memory on a GPU, and with a promise of some."""
    uuid = use.gpu.uuid
    ours = [
        Holder(each.slot, measured(each, use) + each.promised_bytes(uuid)) for each in reservations
    ]
    strangers = [Holder(str(each), each.used_bytes or 0) for each in use.foreign]
    return [*ours, *strangers]


def _explain_rest(own: Reservation, uses: Mapping[str, GpuUse]) -> str:
    """Who still holds what an ended worker had."""
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
