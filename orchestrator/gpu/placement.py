"""Which worker goes on which GPU, with how much memory. A pure function: the same models and
cards give the same plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from orchestrator.gpu.places import (
    Assignment,
    Demand,
    Device,
    Holder,
    Placement,
    Refusal,
    Verdict,
)
from orchestrator.terminal.sizes import MIB, show

#: Parts of the wanted KV cache that are tried one after the other until every worker has a place.
_SHARES: Final = (1.0, 0.75, 0.5, 0.25, 0.0)
_FRACTION_STEPS: Final = 10_000


class _Place(NamedTuple):
    demand: Demand
    devices: tuple[Device, ...]
    kv_bytes: int
    #: How many GPUs could have taken it.
    choices: int

    @property
    def unmet_bytes(self) -> int:
        return (
            0 if self.demand.fraction is not None else self.demand.wanted_kv_bytes - self.kv_bytes
        )

    def bytes_on(self, device: Device) -> int:
        if self.demand.fraction is not None:
            return self.demand.need_bytes(device)
        return self.demand.fixed_bytes + self.kv_bytes


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
    placed = _grow(room.places, devices, kept)
    return Placement(
        assignments=tuple(sorted(map(_assignment, placed), key=lambda each: each.slot)),
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
        self.places: list[_Place] = []
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
        self.places.append(_Place(demand, chosen, demand.kv_bytes(share), len(fitting)))
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


def _grow(
    places: Sequence[_Place], devices: Sequence[Device], kept: Mapping[str, int]
) -> list[_Place]:
    """Give away what is left, in proportion to what each worker still wants; then in turn."""
    left = {each.uuid: each.free_bytes - kept.get(each.uuid, 0) for each in devices}
    for place in places:
        for device in place.devices:
            left[device.uuid] -= place.bytes_on(device)
    unmet = dict.fromkeys(left, 0)
    for place in places:
        for device in place.devices:
            unmet[device.uuid] += place.unmet_bytes
    spare = dict(left)
    grown = [
        _add_kv(place, left, min(_part(place, device, spare, unmet) for device in place.devices))
        for place in places
    ]
    return [_add_kv(place, left, place.unmet_bytes) for place in grown]


def _part(place: _Place, device: Device, spare: dict[str, int], unmet: dict[str, int]) -> int:
    """Return a worker's fair part of what a GPU has left."""
    total = unmet[device.uuid]
    return spare[device.uuid] * place.unmet_bytes // total if total else 0


def _add_kv(place: _Place, left: dict[str, int], offer_bytes: int) -> _Place:
    room = min(left[device.uuid] for device in place.devices)
    extra = max(0, min(offer_bytes, room, place.unmet_bytes))
    if extra < place.unmet_bytes:
        extra -= extra % MIB
    for device in place.devices:
        left[device.uuid] -= extra
    return place._replace(kv_bytes=place.kv_bytes + extra)


def _assignment(place: _Place) -> Assignment:
    demand = place.demand
    bytes_by_gpu = {device.uuid: place.bytes_on(device) for device in place.devices}
    cache = None if demand.fraction is not None else place.kv_bytes or None
    return Assignment(
        slot=demand.slot,
        model=demand.model,
        bytes_by_gpu=bytes_by_gpu,
        indices=tuple(device.index for device in place.devices),
        kv_cache_bytes=cache,
        kv_cache_tokens=demand.tokens(cache) if cache else None,
        gpu_memory_fraction=demand.fraction or _fraction(place),
        why=_why(place),
        context_len=(demand.context_len or None) if cache else None,
        max_sequences=(demand.sequences(cache) or None) if cache else None,
    )


def _fraction(place: _Place) -> float:
    """Return the part of each GPU that the engine may take, rounded down: engines refuse to
    start if that much is not free, and they look when their own context is already there."""
    parts = (
        (place.bytes_on(device) - place.demand.context_bytes) / device.total_bytes
        for device in place.devices
    )
    return max(1, math.floor(min(parts) * _FRACTION_STEPS)) / _FRACTION_STEPS


def _why(place: _Place) -> str:
    names = ", ".join(device.label for device in place.devices)
    demand = place.demand
    if demand.pins:
        reason = "one of the model's `gpus`"
    elif place.choices == demand.gpus:
        reason = "nothing else holds it"
    else:
        reason = f"the least room of {place.choices} that hold it"
    if demand.fraction is not None or place.unmet_bytes <= 0:
        return f"{names}: {reason}"
    wanted = show(demand.wanted_kv_bytes)
    return f"{names}: {reason}; {show(place.kv_bytes)} of {wanted} wanted for the KV cache"


def _refusal(demand: Demand, room: _Room, placed: Sequence[_Place]) -> Refusal:
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
