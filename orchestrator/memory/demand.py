"""From a configured model to what its workers demand of the GPUs."""

from __future__ import annotations

import msgspec

from contract.config import ModelConfig
from orchestrator.memory.estimate import Estimate, estimate_model
from orchestrator.memory.footprints import Footprint, Footprints, footprint_key
from orchestrator.memory.places import Demand
from orchestrator.memory.running import Card


class Need(msgspec.Struct, frozen=True):
    """What a model needs on each GPU, by estimate and, if it ran before, by measurement."""

    model_id: str
    model: ModelConfig
    engine: str
    key: str
    estimate: Estimate
    footprint: Footprint | None

    @property
    def fixed_bytes(self) -> int:
        """Everything but the KV cache: as measured, else as estimated."""
        return self.footprint.fixed_bytes if self.footprint else self.estimate.fixed_bytes

    @property
    def slots(self) -> list[str]:
        return [f"{self.model_id}-{replica}" for replica in range(self.model.replicas)]

    def demand(self, slot: str) -> Demand:
        """The demand of one of its workers."""
        cache = self.estimate.kv_cache
        return Demand(
            slot=slot,
            model=self.model_id,
            gpus=self.estimate.gpus,
            fixed_bytes=self.fixed_bytes,
            least_kv_bytes=cache.least_bytes,
            wanted_kv_bytes=cache.wanted_bytes,
            context_bytes=self.estimate.part_bytes("context"),
            fraction=self.estimate.fraction,
            pins=tuple(self.model.gpus or ()),
        )


def need_of(
    model_id: str,
    model: ModelConfig,
    engine: str,
    card: Card,
    footprints: Footprints,
    version: str = "",
) -> Need | None:
    """What a model needs; None if its engine takes no GPU memory. Reads the model's files.
    Raises `UserError` if they are not there or do not say enough."""
    estimate = estimate_model(model, engine, card)
    if estimate is None:
        return None
    key = footprint_key(model, engine, card.name)
    return Need(model_id, model, engine, key, estimate, footprints.get(key, version))
