"""The models on this host's GPUs, as the eviction policy sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from orchestrator.gpu.decisions import Resident
from orchestrator.gpu.reservation import Reservation
from orchestrator.supervisor.models.model import Model


def residents(models: Iterable[Model], reservations: Iterable[Reservation]) -> list[Resident]:
    """Return the models that have memory or a process, and the ended workers that still have
    some."""
    held = {each.slot: each for each in reservations}
    found = []
    for model in models:
        places = [held[unit.slot] for unit in model.units if unit.slot in held]
        if places or any(unit.child for unit in model.units):
            found.append(_resident(model, places))
    ended = [each for each in held.values() if not each.stays]
    return found + [
        Resident(each.slot, each.used_bytes, None, 0.0, 0.0, is_leaving=True) for each in ended
    ]


def _resident(model: Model, places: Sequence[Reservation]) -> Resident:
    return Resident(
        model=model.id,
        bytes_by_gpu=_bytes_by_gpu(places),
        loaded_at=model.times.loaded_at,
        last_used_at=model.use.last_used,
        load_s=model.times.return_s(sleeps=model.can_sleep),
        running=model.running,
        waiting=max(0, model.use.unfinished - model.running),
        is_on_demand=model.is_on_demand,
        is_pinned=model.is_pinned,
        idle_unload_s=None if model.is_asleep else model.config.idle_unload_s,
        is_leaving=model.is_leaving,
    )


def _bytes_by_gpu(places: Sequence[Reservation]) -> dict[str, int]:
    """Return the bytes of these places by GPU: those promised, or more if more are used."""
    total = Counter[str]()
    for place in places:
        for uuid, size in place.reserved_bytes.items():
            total[uuid] += max(size, place.used_bytes.get(uuid, 0))
    return dict(total)
