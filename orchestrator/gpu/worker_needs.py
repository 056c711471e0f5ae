"""The needs of workers that are to be started, on the GPUs of this host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import ModelNotHere
from orchestrator.estimate.estimate import blind_estimate, fraction_of
from orchestrator.estimate.running import Card
from orchestrator.gpu.attribution import GpuUse
from orchestrator.gpu.demand import Need, need_of
from orchestrator.gpu.footprints import Footprints, footprint_key
from orchestrator.protocol.specs import ReplicaSpec

#: Of each GPU, for a model of which nothing is known yet: about what engines take by themselves.
_BLIND_FRACTION: Final = 0.9


class WorkerNeeds:
    """For the GPUs in `uses` (by UUID, at least one) and with the footprints measured so far."""

    def __init__(self, uses: Mapping[str, GpuUse], footprints: Footprints) -> None:
        # Engines reserve more for themselves on larger ones.
        largest = max(uses.values(), key=lambda use: use.total_bytes)
        self._card = Card(largest.gpu.name, largest.total_bytes)
        self._footprints = footprints

    def of(self, worker: ReplicaSpec) -> Need | None:
        """Return the need of one worker; None if it needs no GPU memory. Reads the model's files.
        Raises `UserError` if they do not say."""
        model = ModelConfig.model_validate(worker.spec["model"])
        try:
            return need_of(
                worker.model, model, worker.engine, self._card, self._footprints, worker.version
            )
        except ModelNotHere:
            return self._blind(worker, model)

    def of_all(
        self, workers: Iterable[ReplicaSpec]
    ) -> tuple[list[tuple[Need, str]], dict[str, UserError]]:
        """Return the needs of those that need GPU memory, with their slots, and by slot why others
        have none that is known."""
        found, unknown = [], {}
        for worker in workers:
            try:
                need = self.of(worker)
            except UserError as error:
                unknown[worker.slot] = error
            else:
                found += [(need, worker.slot)] if need is not None else []
        return found, unknown

    def _blind(self, worker: ReplicaSpec, model: ModelConfig) -> Need:
        """Return the need of a model that is yet to be downloaded: a GPU to itself, just this
        once."""
        fraction = fraction_of(model) or _BLIND_FRACTION
        return Need(
            model_id=worker.model,
            model=model,
            engine=worker.engine,
            key=footprint_key(model, worker.engine, self._card.name),
            estimate=blind_estimate(model, fraction, "the model is yet to be downloaded"),
            footprint=None,
        )
