"""Models that are made of others (Ultravox): their own files have only what joins these, and name
the repositories of a language model and of an encoder. vLLM loads both from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestrator.errors import UserError
from orchestrator.estimate.model_json import ModelJson, read_json, read_tensors
from orchestrator.estimate.weights import Bulk, Weights, bulk_of

#: Of an encoder's checkpoint its decoder is left alone.
_ENCODER: Final = "encoder."


def composed(
    config: ModelJson, locate: Callable[[str], Path], read: Callable[[Path], Any]
) -> ModelJson:
    """Return a configuration with those of the models that it names. Raises `UserError` if they
    are not here."""
    if config.text_model_id:
        text = read(locate(config.text_model_id))
        if not isinstance(text, ModelJson) or text.text_model_id:
            raise UserError(
                f"the language model `{config.text_model_id}` is no checkpoint of its own",
                "correct `text_model_id` in the model's config.json",
            )
        config = msgspec.structs.replace(config, text_config=text.inner or text)
    if config.audio_model_id:
        heard = read_json(locate(config.audio_model_id) / "config.json")
        config = msgspec.structs.replace(config, audio_config=heard)
    return config


def composed_weights(
    own: Weights, config: ModelJson, locate: Callable[[str], Path], text: Weights | None
) -> Weights:
    """Return the weights of all of them: of the model itself, of its language model and of its
    encoder."""
    if text is not None:
        own = msgspec.structs.replace(
            own,
            source=f"{own.source}, with those of {config.text_model_id}",
            layers=own.layers + own.embedding + own.head + text.layers,
            embedding=text.embedding,
            head=text.head,
            adapters=text.adapters,
        )
    if config.audio_model_id:
        encoder = _encoder(locate(config.audio_model_id))
        own = msgspec.structs.replace(own, layers=own.layers + encoder)
    return own


def _encoder(path: Path) -> Bulk:
    found = Bulk()
    for file in sorted(path.glob("*.safetensors")):
        for name, tensor in read_tensors(file).items():
            found += bulk_of(tensor) if _ENCODER in name else Bulk()
    return found
