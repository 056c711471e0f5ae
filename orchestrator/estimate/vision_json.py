"""The JSON of the parts of a model that see and hear, and of its images, as frozen types. Families
write them in many ways, and no model is refused for them: what is not like these says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from contract.model_files.plan_json import Positive, Whole

#: Some families give a figure for each layer.
PerLayer = Whole | list[Whole] | None
Form = TypeVar("Form")


class VisionJson(msgspec.Struct, frozen=True):
    """The part that sees."""

    hidden_size: Whole | None = None
    embed_dim: Whole | None = None
    width: Whole | None = None
    intermediate_size: Whole | None = None
    mlp_ratio: float | None = None
    image_size: PerLayer = None
    patch_size: PerLayer = None
    spatial_merge_size: Positive | None = None
    temporal_patch_size: Positive | None = None
    hidden_act: str | None = None


class HearingJson(msgspec.Struct, frozen=True):
    """The part that hears, in the manner of Whisper's encoder."""

    model_type: str | None = None
    d_model: Whole | None = None
    hidden_size: Whole | None = None
    encoder_ffn_dim: Whole | None = None
    intermediate_size: Whole | None = None
    max_source_positions: Whole | None = None
    num_mel_bins: Whole | None = None


class ImageSizeJson(msgspec.Struct, frozen=True):
    """An edge in pixels in some families, the pixels of an image in others."""

    longest_edge: Whole | None = None


class ProcessorJson(msgspec.Struct, frozen=True):
    """preprocessor_config.json: how images are made fit for a model."""

    max_pixels: Whole | None = None
    size: ImageSizeJson | Whole | None = None
    image_seq_length: Whole | None = None

    @property
    def most_pixels(self) -> int:
        """Of an image; 0 if it does not say."""
        size = self.size.longest_edge if isinstance(self.size, ImageSizeJson) else 0
        return self.max_pixels or size or 0


def read_vision(section: Any) -> VisionJson:
    """Return `vision_config` of a model."""
    return _as_far_as_understood(section, VisionJson)


def read_hearing(section: Any) -> HearingJson:
    """Return `audio_config` of a model."""
    return _as_far_as_understood(section, HearingJson)


def read_processor(path: Path) -> ProcessorJson:
    """Return preprocessor_config.json in a model's directory."""
    try:
        content = json.loads((path / "preprocessor_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    return _as_far_as_understood(content, ProcessorJson)


def _as_far_as_understood(content: Any, form: type[Form]) -> Form:
    try:
        return msgspec.convert(content, form, strict=False)
    except (msgspec.ValidationError, RecursionError):
        return form()
