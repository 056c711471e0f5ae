"""A dry run of the configured models on this host's GPUs, or on others. Looks, and
changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from contract.config import ModelConfig
from contract.process.process_table import read_table, tree
from contract.supervision.status import RunStatus
from orchestrator.errors import UserError
from orchestrator.estimate.running import Card
from orchestrator.gpu.attribution import attribute
from orchestrator.gpu.demand import Need, need_of
from orchestrator.gpu.footprints import Footprints, footprints_path
from orchestrator.gpu.ledger import Ledger
from orchestrator.gpu.ledger_file import ledger_path
from orchestrator.gpu.nvml.client import Nvml
from orchestrator.gpu.nvml.snapshot import restricted
from orchestrator.gpu.placement import place, room_to_keep
from orchestrator.gpu.places import Assignment, Demand, Device, Refusal
from orchestrator.gpu.reservation import Reservation
from orchestrator.terminal.sizes import GIB

_DEVICES: Final = re.compile(r"(\d+)\s*x\s*(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)?", re.IGNORECASE)
_ANSWER_WITHIN_S: Final = 3.0


class Place(msgspec.Struct, frozen=True):
    """The GPUs there are, and the workers that have places on them. `problem`: why there are
    none."""

    devices: tuple[Device, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    problem: str = ""

    @property
    def card(self) -> Card:
        """The largest GPU: engines reserve more for themselves on larger ones."""
        largest = max(self.devices, key=lambda each: each.total_bytes, default=None)
        return Card(largest.name, largest.total_bytes) if largest else Card()


class WhatIf(msgspec.Struct, frozen=True):
    """One model: what it needs (None: no GPU memory), and where its workers are, would go, or
    why they cannot. `error`: why its need is not known."""

    model_id: str
    engine: str
    need: Need | None = None
    error: str = ""
    hint: str = ""
    reservations: tuple[Reservation, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.error and not self.refusals


def this_host(status: RunStatus) -> Place:
    """Return the GPUs of this host as they are now. Blocks for a moment; for seconds if the
    driver hangs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    snapshot = restricted(Nvml().snapshot(_ANSWER_WITHIN_S), visible)
    uses = attribute(snapshot, _families(status))
    ledger = Ledger(ledger_path(), Footprints(footprints_path()))
    return Place(
        devices=tuple(ledger.devices(uses)),
        reservations=tuple(ledger.reservations),
        problem=snapshot.problem or ("" if snapshot.gpus else "the driver shows no GPU"),
    )


def imagined(text: str) -> Place:
    """Empty GPUs as `2x80` describes them: two of 80 GiB. Raises `UserError`."""
    match = _DEVICES.fullmatch(text.strip())
    if match is None:
        raise UserError(f"`{text}` does not describe GPUs", "`2x80` means two GPUs of 80 GiB each")
    count, size_gib = int(match[1]), float(match[2])
    size = int(size_gib * GIB)
    name = f"GPU of {size_gib:g} GiB"
    return Place(tuple(Device(f"GPU-{index}", index, name, size, size) for index in range(count)))


def what_if(
    models: Mapping[str, ModelConfig],
    chosen: Sequence[str],
    where: Place,
    resolve: Callable[[ModelConfig], str],
    release_of: Callable[[ModelConfig], str] = lambda _: "",
) -> list[WhatIf]:
    """Return the outlook for the `chosen` ones. Models that are always loaded are placed
    together, as a start places them, and leave room for those that come on demand; each of these
    is placed by itself beside them. `resolve` answers the engine that really runs a model,
    `release_of` its release, if that is known."""
    footprints = Footprints(footprints_path())
    found = {
        model_id: _look(model_id, model, where, footprints, resolve(model), release_of(model))
        for model_id, model in models.items()
    }
    if not where.devices:
        return [found[model_id] for model_id in chosen]
    on_demand = [each for each in found if models[each].load == "on-demand"]
    waiting = _demands(found, where, on_demand)
    always = _demands(found, where, [each for each in chosen if each not in on_demand])
    kept = room_to_keep(waiting, where.devices)
    placement = place(always, where.devices, at_work=_at_work(where), keep_free=kept)
    placed = placement.assignments
    refused = placement.refusals
    left = _without(where.devices, placed)
    for model_id in on_demand:
        alone = place(_demands(found, where, [model_id]), left, at_work=_at_work(where))
        placed, refused = placed + alone.assignments, refused + alone.refusals
    return [_complete(found[each], where, placed, refused) for each in chosen]


def _look(
    model_id: str,
    model: ModelConfig,
    where: Place,
    footprints: Footprints,
    engine: str,
    release: str,
) -> WhatIf:
    try:
        need = need_of(model_id, model, engine, where.card, footprints, release)
    except UserError as error:
        return WhatIf(model_id, engine, error=error.message, hint=error.hint)
    return WhatIf(model_id, engine, need)


def _demands(found: Mapping[str, WhatIf], where: Place, model_ids: Sequence[str]) -> list[Demand]:
    """Return what the workers of these models demand, but for those that have their place."""
    held = {each.slot for each in where.reservations}
    needs = (found[model_id].need for model_id in model_ids)
    return [need.demand(slot) for need in needs if need for slot in need.slots if slot not in held]


def _complete(
    one: WhatIf, where: Place, placed: Sequence[Assignment], refused: Sequence[Refusal]
) -> WhatIf:
    return msgspec.structs.replace(
        one,
        reservations=tuple(
            each for each in where.reservations if each.assignment.model == one.model_id
        ),
        assignments=tuple(each for each in placed if each.model == one.model_id),
        refusals=tuple(each for each in refused if each.model == one.model_id),
    )


def _without(devices: Sequence[Device], placed: Sequence[Assignment]) -> list[Device]:
    taken: dict[str, int] = {}
    for assignment in placed:
        for uuid, size in assignment.bytes_by_gpu.items():
            taken[uuid] = taken.get(uuid, 0) + size
    return [
        msgspec.structs.replace(each, free_bytes=each.free_bytes - taken.get(each.uuid, 0))
        for each in devices
    ]


def _at_work(where: Place) -> dict[str, list[str]]:
    models: dict[str, list[str]] = {}
    for each in where.reservations:
        models.setdefault(each.assignment.model, []).extend(each.reserved_bytes)
    return models


def _families(status: RunStatus) -> dict[str, set[int]]:
    """Return the pids of each worker that runs, and of all that it started."""
    table = read_table()
    return {
        worker.slot: {entry.pid for entry in tree(table, [worker.pid])}
        for model in status.models
        for worker in model.workers
        if worker.pid is not None
    }
