"""The supervisor's door to this package: who may start, with which GPUs and numbers.

The supervisor hands in what it sees (`observed`) and what happens (`start`, `ready`, `ended`);
nothing here starts or stops a process. Only `reserve` reads files, and nothing waits.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.memory.account import GpuAccount, accounts
from orchestrator.memory.attribution import GpuUse, attribute
from orchestrator.memory.checkpoint import ModelNotHere
from orchestrator.memory.demand import Need, need_of
from orchestrator.memory.estimate import CONTEXT_BYTES, Estimate, KvCache, Part
from orchestrator.memory.footprints import Footprints, footprint_key, footprints_path
from orchestrator.memory.ledger import Ledger, ledger_path
from orchestrator.memory.nvml import Snapshot, restricted
from orchestrator.memory.placement import room_to_keep
from orchestrator.memory.reservation import Reservation
from orchestrator.memory.running import Card
from orchestrator.memory.sizes import MIB
from orchestrator.wanted import WantedWorker

log = logging.getLogger(__name__)
#: Of each GPU, for a model of which nothing is known yet: about what engines take by themselves.
_BLIND_FRACTION: Final = 0.9
#: From this release on, vLLM takes UUIDs in CUDA_VISIBLE_DEVICES; before, it fails on them.
_VLLM_TAKES_UUIDS: Final = (0, 26)


class Grant(NamedTuple):
    """What a start needs to know of its place: fields of its `WorkerSpec`, and variables."""

    spec: dict[str, Any]
    environment: dict[str, str]


class Steward:
    """One per supervisor. Slots are those of `WantedWorker`."""

    def __init__(self) -> None:
        self._footprints = Footprints(footprints_path())
        self._ledger = Ledger(ledger_path(), self._footprints)
        self._uses: dict[str, GpuUse] = {}
        self._problem = "the GPUs have not been looked at yet"

    @property
    def problem(self) -> str:
        """Why the account is not up to date; empty if it is. Where no GPU was ever seen, workers
        start all the same and their engines take what they take; else they wait."""
        return self._problem

    def observed(self, snapshot: Snapshot, families: Mapping[str, Collection[int]]) -> None:
        """The GPUs as they are now, and the pids of each worker with all that it started."""
        self._problem = snapshot.problem or ("" if snapshot.gpus else "the driver shows no GPU")
        if self._problem and self._uses:
            return
        visible = restricted(snapshot, os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._uses = attribute(visible, families)
        for notice in self._ledger.observe(self._uses):
            log.warning("%s", notice)

    def reserve(self, workers: Iterable[WantedWorker]) -> dict[str, UserError]:
        """Promise places to workers that shall be started, all at once, so that they share what
        there is. Those that are loaded on demand get none yet, but room is left for them.
        Answers why some cannot have a place."""
        if not self._uses:
            return {}
        refused: dict[str, UserError] = {}
        always: list[tuple[Need, str]] = []
        later = []
        for worker in workers:
            try:
                need = self._need(worker)
            except UserError as error:
                refused[worker.slot] = error
                continue
            if need is not None and need.model.load == "on-demand":
                later.append(need.demand(worker.slot))
            elif need is not None:
                always.append((need, worker.slot))
        kept = room_to_keep(later, self._ledger.devices(self._uses))
        placement = self._ledger.reserve(always, self._uses, kept)
        for refusal in placement.refusals:
            hint = "`./ew estimate` shows every part; a smaller `max_model_len` needs less"
            refused[refusal.slot] = UserError(str(refusal), hint)
        return refused

    def obstacle(self, slot: str) -> str:
        """Why a worker has to wait before it starts; empty if it need not."""
        if slot not in self._slots():
            return ""
        return self._problem or self._ledger.obstacle(slot, self._uses)

    def start(self, worker: WantedWorker, version: str = "") -> Grant:
        """A worker is started now. `version` is its engine's, if that is known."""
        reservation = self._slots().get(worker.slot)
        if reservation is None:
            return Grant({}, {})
        self._ledger.start(worker.slot, self._uses)
        assignment = reservation.assignment
        spec = {
            "kv_cache_bytes": assignment.kv_cache_bytes,
            "gpu_memory_fraction": assignment.gpu_memory_fraction,
        }
        has_slices = any(uuid.startswith("MIG-") for uuid in assignment.uuids)
        by_uuid = has_slices or _takes_uuids(worker.engine, version)
        return Grant(spec, assignment.environment(by_uuid=by_uuid))

    def ready(self, slot: str, *, version: str, load_s: float) -> None:
        """A worker is ready, and `observed` has been called since."""
        if slot in self._slots():
            own = self._ledger.ready(slot, self._uses, version=version, load_s=load_s)
            used = {uuid: f"{size // MIB} MiB" for uuid, size in own.used_bytes.items()}
            log.info("%s has %s of GPU memory", slot, used)

    def ended(self, slot: str, *, returns: bool) -> None:
        """A worker has ended. If it `returns`, its place is kept for it."""
        self._ledger.end(slot, returns=returns)

    def adopt(self, running: Collection[str]) -> None:
        """These workers of a former supervisor still run."""
        self._ledger.adopt(running)

    def accounts(self) -> tuple[GpuAccount, ...]:
        """Every GPU, as `status` shows it."""
        return accounts(self._uses, self._ledger.reservations)

    def _slots(self) -> dict[str, Reservation]:
        return {each.slot: each for each in self._ledger.reservations}

    def _need(self, worker: WantedWorker) -> Need | None:
        model = ModelConfig.model_validate(worker.spec["model"])
        card = self._largest_card()
        try:
            return need_of(worker.model, model, worker.engine, card, self._footprints)
        except ModelNotHere:
            return _blind_need(worker, model, card)

    def _largest_card(self) -> Card:
        """Engines reserve more for themselves on larger ones."""
        largest = max(self._uses.values(), key=lambda use: use.total_bytes)
        return Card(largest.gpu.name, largest.total_bytes)


def _blind_need(worker: WantedWorker, model: ModelConfig, card: Card) -> Need:
    """The need of a model that is yet to be downloaded: a GPU to itself, just this once."""
    return Need(
        model_id=worker.model,
        model=model,
        engine=worker.engine,
        key=footprint_key(model, worker.engine, card.name),
        estimate=Estimate(
            gpus=model.tensor_parallel_size * model.pipeline_parallel_size,
            parts=(Part("context", CONTEXT_BYTES, "CUDA context and libraries"),),
            kv_cache=KvCache(0, 0, 0, 0, 0),
            fraction=model.gpu_memory_utilization or _BLIND_FRACTION,
        ),
        footprint=None,
    )


def _takes_uuids(engine: str, version: str) -> bool:
    if engine != "cuda-vllm":
        return True
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return numbers >= _VLLM_TAKES_UUIDS
