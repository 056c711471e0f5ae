"""The part of a multimodal model that sees: its width, and what it makes of an image."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from orchestrator.estimate.model_json import ModelJson
from orchestrator.estimate.vision_json import PerLayer, ProcessorJson, VisionJson, read_vision

#: Tokens of the largest image where the processor does not say (Qwen2VLImageProcessor).
_USUAL_TOKENS: Final = 1280
#: An edge in pixels is smaller, a number of pixels larger.
_LARGEST_EDGE: Final = 16_384
#: The functions of towers whose MLP multiplies two projections (Pixtral, Qwen2.5-VL, GLM-4V).
_GATED: Final = ("silu", "swiglu")


class Tower(msgspec.Struct, frozen=True):
    """A vision transformer. `patches` and `tokens` are those of the largest image: the tower works
    on patches, the language model reads tokens."""

    hidden_size: int
    intermediate_size: int
    patches: int
    tokens: int
    #: Values of one patch, as the processor hands them over.
    pixels: int = 0
    is_gated: bool = False

    def patch_bytes(self, tensor_parallel: int, element_bytes: int) -> int:
        """The most that one patch has in flight within a layer: the residual, its normalised copy
        and the attention's output, with queries, keys and values, or with the MLP; and its
        pixels. No compiler makes use of a buffer again here."""
        inner = (2 + self.is_gated) * self.intermediate_size / tensor_parallel
        widest = max(4 * self.hidden_size / tensor_parallel, inner)
        return math.ceil((3 * self.hidden_size + widest + self.pixels) * element_bytes)


def tower_of(config: ModelJson, processor: ProcessorJson) -> Tower | None:
    """Return the tower that a model's files describe; None if it has none, or none of patches."""
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
