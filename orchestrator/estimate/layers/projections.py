"""The projections of a model as the headers of its weights have them: for each, an adapter has two
thin matrices. They are apart in a checkpoint as they are in vLLM's places, which has as many
matrices for what it joins."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from orchestrator.estimate.layers.adapters import AdapterWidths
from orchestrator.estimate.model_json import TensorJson

_NUMBER: Final = re.compile(r"(?:^|\.)(?:layers?|h|blocks|block)\.(\d+)\.")
#: Projections whose input is divided by tensor parallelism (vLLM's `RowParallelLinear`).
_ROWS: Final = re.compile(
    r"(o_proj|out_proj|down_proj|dense_4h_to_h|c_proj|fc2|w2|wo|fc_out|x_proj"
    r"|attention\.dense|attn\.dense|output\.dense|mlp\.dense_2)\.weight$"
)
#: Parts that see, hear or speak, and what joins them to the words: they have no places.
_TOWER: Final = re.compile(
    r"(^|\.)(vision|visual|vit|vpm|image|audio|sound|speech|siglip|clip|multi_modal|mm_|resampler"
    r"|connector|merger|qformer|projector|talker|token2wav|code2wav)"
)
#: Matrices that project nothing.
_OTHERS: Final = re.compile(r"embed|(^|\.)wpe\.|(^|\.)wte\.|norm|rotary|lm_head")
_EXPERTS: Final = re.compile(r"experts\.(gate_up_proj|gate_proj|up_proj|down_proj|w1|w2|w3)$")
#: Elements of less than eight bits lie packed in these, so that shapes say little.
_PACKED: Final = ("qweight", "weight_packed", "_blocks")
#: Mamba 2 projects to five results at once, each with a matrix of its own; it has this tensor.
_JOINT: Final = ".in_proj.weight"
_JOINED: Final = 5
_MAMBA_2: Final = ".dt_bias"


def projection_widths(
    tensors: Collection[tuple[str, TensorJson]], layers: int, hidden: int
) -> AdapterWidths:
    """Return the elements of one adapter for each unit of its rank in all layers of a model that is
    so wide; 0 if the headers are not those of so many layers, or packed."""
    found, numbers = AdapterWidths(), set()
    joined = _JOINED if any(name.endswith(_MAMBA_2) for name, _ in tensors) else 1
    for name, tensor in tensors:
        if name.endswith(_PACKED) or (tensor.dtype == "U8" and len(tensor.shape) > 1):
            return AdapterWidths()
        widths = _widths(name, tensor.shape, hidden, joined)
        number = _NUMBER.search(name)
        if widths is None or number is None or _TOWER.search(name):
            continue
        found += widths
        numbers.add(int(number[1]))
    return found if numbers and max(numbers) + 1 == len(numbers) >= layers else AdapterWidths()


def _widths(name: str, shape: list[int], hidden: int, joined: int) -> AdapterWidths | None:
    """Return those of one matrix, or of a matrix for each expert; None for what is neither."""
    expert = _EXPERTS.search(name)
    if expert and len(shape) == 3:
        halves = 2 if expert[1] == "gate_up_proj" else 1
        inner = shape[1] if shape[2] == hidden else shape[2]
        return AdapterWidths(halves * hidden, inner).times(shape[0])
    if not name.endswith(".weight") or _OTHERS.search(name):
        return None
    if len(shape) == 3 and "conv1d" in name:
        return AdapterWidths(shape[2], shape[0])
    if len(shape) != 2:
        return None
    out, into = shape
    if _ROWS.search(name):
        return AdapterWidths(out, into)
    return AdapterWidths((joined if name.endswith(_JOINT) else 1) * into, out)
