"""The parts of a multimodal model that see and hear: how wide they are, and the tokens that they
make of an image or a sound."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from orchestrator.estimate.model_json import ModelJson
from orchestrator.estimate.vision_json import (
    PerLayer,
    ProcessorJson,
    VisionJson,
    read_hearing,
    read_vision,
)

#: Tokens of the largest image where the processor does not say (Qwen2VLImageProcessor).
_USUAL_TOKENS: Final = 1280
#: An edge in pixels is smaller, a number of pixels larger.
_LARGEST_EDGE: Final = 16_384
#: The functions of towers whose MLP multiplies two projections (Pixtral, Qwen2.5-VL, GLM-4V).
_GATED: Final = ("silu", "swiglu")


#: Places of an encoder like Whisper's that become one token of the language model, by the encoder.
_POOLED: Final = {"qwen2_audio_encoder": 2, "audioflamingo3_encoder": 2, "voxtral_encoder": 4}


class Tower(msgspec.Struct, frozen=True):
    """A transformer that sees or hears. `patches` and `tokens` are those of the largest image, or
    of the longest sound that it takes at once: the tower works on patches, the language model reads
    tokens."""

    hidden_size: int
    intermediate_size: int
    patches: int
    tokens: int
    #: Values of one patch, as the processor hands them over.
    pixels: int = 0
    is_gated: bool = False
    hears: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The media that it takes, as vLLM calls them."""
        return ("audio",) if self.hears else ("image", "video")

    def patch_bytes(self, tensor_parallel: int, element_bytes: int) -> int:
        """The most that one patch has in flight within a layer: the residual, its normalised copy
        and the attention's output, with queries, keys and values, or with the MLP; and its
        pixels. No compiler makes use of a buffer again here."""
        inner = (2 + self.is_gated) * self.intermediate_size / tensor_parallel
        widest = max(4 * self.hidden_size / tensor_parallel, inner)
        return math.ceil((3 * self.hidden_size + widest + self.pixels) * element_bytes)


def towers_of(config: ModelJson, processor: ProcessorJson) -> tuple[Tower, ...]:
    """Return the towers that a model's files describe, as far as they are known."""
    sees = _seeing(config, processor) if config.vision_config else None
    hears = _hearing(config) if config.audio_config else None
    return tuple(each for each in (sees, hears) if each)


def _seeing(config: ModelJson, processor: ProcessorJson) -> Tower | None:
    """Return a tower of patches; None if it has other parts."""
    vision = read_vision(config.vision_config)
    patch, width = _largest(vision.patch_size), _width(vision)
    if not patch or not width:
        return None
    merged = vision.spatial_merge_size or config.spatial_merge_size or 1
    patches = max(merged**2, _pixels(vision, processor, patch * merged) // patch**2)
    given = config.figure("mm_tokens_per_image", "image_seq_length") or processor.image_seq_length
    ratio = config.downsample_ratio or 1.0
    tokens = given or max(1, int(patches * min(1.0, ratio) ** 2) // merged**2)
    return Tower(
        hidden_size=width,
        intermediate_size=vision.intermediate_size or int((vision.mlp_ratio or 4) * width),
        patches=patches,
        tokens=tokens,
        pixels=3 * patch**2 * (vision.temporal_patch_size or 1),
        is_gated=(vision.hidden_act or "") in _GATED,
    )


def _hearing(config: ModelJson) -> Tower | None:
    """Return an encoder like Whisper's: half as many places as it has pieces of the sound."""
    hearing = read_hearing(config.audio_config)
    width, places = hearing.d_model or hearing.hidden_size, hearing.max_source_positions
    known = hearing.model_type in ("whisper", *_POOLED) or config.stack_factor
    if not width or not places or not (known or config.encoded_positions):
        return None
    pooled = config.stack_factor or _POOLED.get(hearing.model_type or "", 1)
    return Tower(
        hidden_size=width,
        intermediate_size=hearing.encoder_ffn_dim or hearing.intermediate_size or 4 * width,
        patches=places,
        tokens=math.ceil(places / pooled),
        pixels=2 * (hearing.num_mel_bins or 0),
        hears=True,
    )


def _width(vision: VisionJson) -> int:
    """Qwen2-VL calls the width of the language model `hidden_size` here."""
    return vision.embed_dim or vision.hidden_size or vision.width or 0


def _largest(figure: PerLayer) -> int:
    return (max(figure, default=0) if isinstance(figure, list) else figure) or 0


def _pixels(vision: VisionJson, processor: ProcessorJson, token_edge: int) -> int:
    """Of the largest image, as it is resized: as many as the processor says where sizes differ,
    else a square of the tower's own size."""
    if processor.most_pixels > _LARGEST_EDGE:
        return processor.most_pixels
    edge = _largest(vision.image_size)
    return edge**2 if edge else _USUAL_TOKENS * token_edge**2
