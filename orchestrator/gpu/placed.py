"""Workers that have found their GPUs: the KV cache of each, and the numbers for its engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from orchestrator.gpu.places import Assignment, Demand, Device
from orchestrator.terminal.sizes import MIB, show

_FRACTION_STEPS: Final = 10_000


class Placed(NamedTuple):
    """A worker that has found its GPUs, with the KV cache that it gets there."""

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


def grow(
    places: Sequence[Placed], devices: Sequence[Device], kept: Mapping[str, int]
) -> list[Placed]:
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


def _part(place: Placed, device: Device, spare: dict[str, int], unmet: dict[str, int]) -> int:
    """Return a worker's fair part of what a GPU has left."""
    total = unmet[device.uuid]
    return spare[device.uuid] * place.unmet_bytes // total if total else 0


def _add_kv(place: Placed, left: dict[str, int], offer_bytes: int) -> Placed:
    room = min(left[device.uuid] for device in place.devices)
    extra = max(0, min(offer_bytes, room, place.unmet_bytes))
    if extra < place.unmet_bytes:
        extra -= extra % MIB
    for device in place.devices:
        left[device.uuid] -= extra
    return place._replace(kv_bytes=place.kv_bytes + extra)


def assignment_of(place: Placed) -> Assignment:
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


def _fraction(place: Placed) -> float:
    """Return the part of each GPU that the engine may take, rounded down: engines refuse to
    start if that much is not free, and they look when their own context is already there."""
    parts = (
        (place.bytes_on(device) - place.demand.context_bytes) / device.total_bytes
        for device in place.devices
    )
    return max(1, math.floor(min(parts) * _FRACTION_STEPS)) / _FRACTION_STEPS


def _why(place: Placed) -> str:
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
