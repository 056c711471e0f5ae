"""Which worker goes on which GPU, with how much memory. A pure function: the same models and
cards give the same plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from orchestrator.gpu.placed import Placed, assignment_of, grow
from orchestrator.gpu.places import (
    Demand,
    Device,
    Holder,
    Placement,
    Refusal,
    Verdict,
)
from orchestrator.terminal.sizes import show

#: Parts of the wanted KV cache that are tried one after the other until every worker has a place.
_SHARES: Final = (1.0, 0.75, 0.5, 0.25, 0.0)


def place(
    demands: Iterable[Demand],
    devices: Sequence[Device],
    *,
    at_work: Mapping[str, Iterable[str]] | None = None,
    keep_free: Mapping[str, int] | None = None,
) -> Placement:
    """Find a place for each worker.

    Large ones choose first; each takes the GPU with the least room that holds it. All get the KV
    cache that they want, or the same share of it if it is not enough for all; what is then left
    is given away. Beyond the least that everybody needs, `keep_free` bytes (by UUID) stay free:
    the room for models that are not loaded. `at_work` names the GPUs where models have workers.
    """
    waiting = sorted(demands, key=_precedence)
    kept = keep_free or {}
    first = _Room(devices, at_work or {}, {})
    able = [demand for demand in waiting if first.settle(demand, 0.0)]
    rooms = ((share, _Room(devices, at_work or {}, kept if share else {})) for share in _SHARES)
    # With a share of 0 every worker is placed as in the first room.
    room = next(room for share, room in rooms if all(room.settle(each, share) for each in able))
    placed = grow(room.places, devices, kept)
    return Placement(
        assignments=tuple(sorted(map(assignment_of, placed), key=lambda each: each.slot)),
        refusals=tuple(
            _refusal(demand, _Room(devices, {}, {}), first.places)
            for demand in waiting
            if demand not in able
        ),
    )


def room_to_keep(demands: Iterable[Demand], devices: Sequence[Device]) -> dict[str, int]:
    """By UUID, what has to stay free so that each of these could be loaded, one at a time."""
    kept: dict[str, int] = {}
    for demand in demands:
        least = msgspec.structs.replace(demand, wanted_kv_bytes=demand.least_kv_bytes)
        for assignment in place([least], devices).assignments:
            for uuid, size in assignment.bytes_by_gpu.items():
                kept[uuid] = max(kept.get(uuid, 0), size)
    return kept


class _Room:
    """A placement in the making: what is free, and which workers have a place."""

    def __init__(
        self,
        devices: Iterable[Device],
        at_work: Mapping[str, Iterable[str]],
        kept: Mapping[str, int],
    ) -> None:
        self.devices = sorted(devices, key=_position)
        self.free = {each.uuid: each.free_bytes - kept.get(each.uuid, 0) for each in self.devices}
        self.places: list[Placed] = []
        self._models = {(uuid, model) for model, uuids in at_work.items() for uuid in uuids}

    def settle(self, demand: Demand, share: float) -> bool:
        """Place a worker, with that share of its wanted KV cache. False if it does not fit."""
        fitting = [device for device in self.devices if not self.objection(demand, device, share)]
        if len(fitting) < demand.gpus:
            return False
        chosen = self._choose(demand, fitting)
        for device in chosen:
            self.free[device.uuid] -= demand.need_bytes(device, share)
            self._models.add((device.uuid, demand.model))
        self.places.append(Placed(demand, chosen, demand.kv_bytes(share), len(fitting)))
        return True

    def objection(self, demand: Demand, device: Device, share: float = 0.0) -> str:
        """Return why a worker cannot go to a GPU; empty if it can."""
        if device.problem:
            return device.problem
        if demand.pins and not any(_means(pin, device) for pin in demand.pins):
            return "is not among the model's `gpus`"
        if demand.gpus > 1 and device.parent:
            return "is a slice, and slices cannot share a model"
        if self.free[device.uuid] < demand.need_bytes(device, share):
            return _shortage(device, self.free[device.uuid])
        return ""

    def _choose(self, demand: Demand, fitting: Sequence[Device]) -> tuple[Device, ...]:
        """GPUs that share a model wait for the slowest of them, so they are of one kind if that
        is possible; of each kind, those with the least room to spare."""
        kinds = [list(group) for _, group in groupby(sorted(fitting, key=_kind), key=_kind)]
        enough = [kind for kind in kinds if len(kind) >= demand.gpus] or [list(fitting)]
        sets = [sorted(kind, key=self._rank_for(demand))[: demand.gpus] for kind in enough]
        best = min(sets, key=lambda chosen: [self._rank_for(demand)(each) for each in chosen])
        return tuple(sorted(best, key=_position))

    def _rank_for(self, demand: Demand) -> Callable[[Device], tuple[bool, int, int, str]]:
        def rank(device: Device) -> tuple[bool, int, int, str]:
            has_replica = (device.uuid, demand.model) in self._models
            return has_replica, self.free[device.uuid], *_position(device)

        return rank


def _refusal(demand: Demand, room: _Room, placed: Sequence[Placed]) -> Refusal:
    """Return what stands in the way when all others take the least that they need."""
    verdicts = []
    for device in room.devices:
        occupants = [place for place in placed if device in place.devices]
        taken = tuple(Holder(each.demand.slot, each.bytes_on(device)) for each in occupants)
        full = msgspec.structs.replace(device, holders=device.holders + taken)
        room.free[device.uuid] -= sum(holder.size_bytes for holder in taken)
        reason = room.objection(demand, full) or "has room, but one more is needed"
        verdicts.append(Verdict(device.label, reason))
    needs = [demand.need_bytes(device) for device in room.devices]
    needed = max(needs, default=demand.fixed_bytes + demand.least_kv_bytes)
    return Refusal(demand.slot, demand.model, demand.gpus, needed, tuple(verdicts))


def _shortage(device: Device, free_bytes: int) -> str:
    holders = sorted(device.holders, key=lambda holder: -holder.size_bytes)
    held = ", ".join(f"{holder.name} {show(holder.size_bytes)}" for holder in holders)
    free = f"{show(max(0, free_bytes))} free of {show(device.total_bytes)}"
    return f"{free} ({held})" if held else free


def _precedence(demand: Demand) -> tuple[bool, int, float, int, str]:
    """The worker that is hardest to place chooses first."""
    size = demand.fixed_bytes + demand.least_kv_bytes
    return not demand.pins, -demand.gpus, -(demand.fraction or 0), -size, demand.slot


def _means(pin: int | str, device: Device) -> bool:
    """Return whether a pin names a device: a number names a GPU and its slices,
    text may also be the start of a UUID."""
    if isinstance(pin, int) or pin.isdigit():
        return device.index == int(pin)
    return device.uuid.startswith(pin) or (bool(device.parent) and device.parent.startswith(pin))


def _kind(device: Device) -> tuple[str, int]:
    return device.name, device.total_bytes


def _position(device: Device) -> tuple[int, str]:
    return device.index, device.uuid
