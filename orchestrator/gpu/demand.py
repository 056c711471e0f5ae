"""From a configured model to what its workers demand of the GPUs."""

from __future__ import annotations

import logging

import msgspec

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import ModelNotHere
from orchestrator.estimate.estimate import (
    Estimate,
    blind_estimate,
    estimate_model,
    fraction_of,
    reads_checkpoint,
)
from orchestrator.estimate.given import given_estimate
from orchestrator.estimate.running import Card
from orchestrator.gpu.footprints import Footprint, Footprints, footprint_key
from orchestrator.gpu.places import Demand

log = logging.getLogger(__name__)


class Need(msgspec.Struct, frozen=True):
    """The need of a model on each GPU, by estimate and, if it ran before, by measurement."""

    model_id: str
    model: ModelConfig
    engine: str
    key: str
    estimate: Estimate
    footprint: Footprint | None

    @property
    def fixed_bytes(self) -> int:
        """Everything but the KV cache: as given, as measured, else as estimated."""
        if self.footprint is None or self.estimate.is_given:
            return self.estimate.fixed_bytes
        return self.footprint.fixed_bytes

    @property
    def slots(self) -> list[str]:
        return [f"{self.model_id}-{replica}" for replica in range(self.model.replicas)]

    def demand(self, slot: str) -> Demand:
        """Return the demand of one of its workers."""
        cache = self.estimate.kv_cache
        return Demand(
            slot=slot,
            model=self.model_id,
            gpus=self.estimate.gpus,
            fixed_bytes=self.fixed_bytes,
            least_kv_bytes=cache.least_bytes,
            wanted_kv_bytes=cache.wanted_bytes,
            context_len=cache.context_len,
            max_sequences=cache.max_sequences,
            token_bytes=cache.bytes_per_planned_token,
            sequence_bytes=cache.bytes_to_begin if cache.state_bytes else 0,
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
    """Return what a model needs; None if its engine takes no GPU memory. Reads the model's
    files. Raises `UserError`, and nothing else, if they are not there or do not say enough,
    unless the configuration says which part of a GPU the model has: one model's odd files or
    settings must not end the process that looks after all."""
    try:
        estimate = _estimate(model, engine, card, version)
    except UserError:
        raise
    except Exception as error:
        log.exception("the memory of `%s` cannot be estimated", model_id)
        message = f"what `{model_id}` needs of a GPU cannot be worked out: {error!r}"
        hint = "are its `engine_args` and the files at its `model_path` right?"
        raise UserError(message, hint) from None
    if estimate is None:
        return None
    key = footprint_key(model, engine, card.name)
    return Need(model_id, model, engine, key, estimate, footprints.get(key, version))


def _estimate(model: ModelConfig, engine: str, card: Card, release: str) -> Estimate | None:
    if model.gpu_memory_gib is not None and reads_checkpoint(engine):
        return given_estimate(model, engine)
    try:
        return estimate_model(model, engine, card, release)
    except ModelNotHere:
        raise
    except UserError as error:
        fraction = fraction_of(model)
        if fraction is None:
            raise
        return blind_estimate(model, fraction, error.message)
