"""Which of a model's layers keep what: families say it in many ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.estimate.layer_json import BlockJson
from orchestrator.estimate.layers.indexers import SPARSE_TYPES
from orchestrator.estimate.layers.kept import Kind
from orchestrator.estimate.layers.states import ONLY_STATES
from orchestrator.estimate.model_json import ModelJson

#: One layer may keep both (Falcon-H1, Zamba2).
_BOTH: Final[tuple[Kind, ...]] = ("full", "state")
NAMED: Final[dict[str, tuple[Kind, ...]]] = {
    "full_attention": ("full",),
    "attention": ("full",),
    "sliding_attention": ("window",),
    "chunked_attention": ("window",),
    "moe": (),
    "mlp": (),
    "hybrid": _BOTH,
    "hybrid_sliding": ("window", "state"),
    # UnlimitedOCR: all of the prompt, and a window of what was generated.
    "reference_sliding_attention": ("full",),
    **dict.fromkeys(SPARSE_TYPES, ("full",)),
}
#: Of Nemotron-H: attention, Mamba; all else keeps nothing.
_LETTERS: Final[dict[str, tuple[Kind, ...]]] = {"*": ("full",), "M": ("state",)}
_ALL_HAVE_BOTH: Final = ("falcon_h1",)
#: Their layers convolve keys, values and what goes in and out (Inkling). vLLM heeds the numbers of
#: layers with a window, and not `layer_types`.
CONVOLVED: Final = ("inkling_mm_model", "inkling_text")


def blocks_of(config: ModelJson) -> Sequence[BlockJson]:
    return config.first("block_configs") or ()


def kinds_of(config: ModelJson, layers: int) -> list[tuple[Kind, ...]]:
    """Return what each layer keeps; the first way of saying it that the configuration uses."""
    numbers = range(layers)
    if config.first("model_type") in CONVOLVED:
        local = set(config.first("local_layer_ids") or ())
        return [("window",) if number in local else ("full",) for number in numbers]
    # Step 3.5 goes on with the layers that predict further tokens. Parts of layers may be more than
    # those: Cosmos 3 Edge names attention and what follows it.
    types: list[str] = (config.first("layer_types") or [])[:layers]
    if named := types or config.first("layers_block_type"):
        return [NAMED.get(name, ("state",)) for name in named]
    if letters := config.first("hybrid_override_pattern"):
        return [_LETTERS.get(letter, ()) for letter in letters]
    if blocks_of(config):
        return [_pruned(block) for block in blocks_of(config)]
    attends = _attends(config, layers)
    if attends is not None:
        return [("full",) if number in attends else ("state",) for number in numbers]
    if config.model_type in ONLY_STATES:
        return [("state",)] * layers
    if config.first("model_type") in _ALL_HAVE_BOTH:
        return [_BOTH] * layers
    windowed = _windowed(config, layers)
    return [("window",) if number in windowed else ("full",) for number in numbers]


def _pruned(block: BlockJson) -> tuple[Kind, ...]:
    attention = block.attention
    if attention is None:
        return ("full",) if block.block_type in (None, "attention") else ()
    return () if attention.no_op or attention.replace_with_linear else ("full",)


def _attends(config: ModelJson, layers: int) -> set[int] | None:
    """Return the layers of a hybrid that attend, among recurrent ones; None if it is no hybrid."""
    numbers = range(layers)
    if interval := config.first("full_attention_interval"):
        return {number for number in numbers if (number + 1) % interval == 0}
    if period := config.first("attn_layer_period"):
        offset = config.first("attn_layer_offset") or 0
        return {number for number in numbers if number % period == offset}
    if (group := config.figure("layer_group_size") or 0) > 1:
        # Bailing: the last of each group, and with short convolutions those of no whole group.
        rest = layers // group * group if config.figure("short_conv_kernel_size") else layers
        return {number for number in numbers if (number + 1) % group == 0 or number >= rest}
    if (indices := config.first("attn_layer_indices", "full_attn_idxs")) is not None:
        return set(indices)
    if types := config.first("attn_type_list"):
        return {number for number, kind in enumerate(types) if kind}
    linear = config.first("linear_attn_config")
    if linear is not None and linear.full_attn_layers:
        return {number - 1 for number in linear.full_attn_layers}
    return None


def _windowed(config: ModelJson, layers: int) -> set[int]:
    """Return the layers that look back only a window (or a chunk)."""
    numbers = range(layers)
    if config.figure("attention_chunk_size"):
        return _chunked(config, layers)
    if (windowed := config.first("hybrid_layer_pattern")) is not None:
        # MiMo V2: 1 for a window.
        return {number for number, is_windowed in enumerate(windowed) if is_windowed}
    if not config.figure("sliding_window") or config.first("use_sliding_window") is False:
        return set()
    pattern = config.first("sliding_window_pattern")
    if isinstance(pattern, int) and pattern > 1:
        # Every `pattern`-th layer sees everything.
        return {number for number in numbers if (number + 1) % pattern}
    if isinstance(pattern, str) and pattern:
        # EXAONE 4: `LLLG`.
        return {number for number in numbers if pattern[number % len(pattern)] == "L"}
    first = config.figure("max_window_layers") or 0 if config.first("use_sliding_window") else 0
    return set(range(min(first, layers), layers))


def _chunked(config: ModelJson, layers: int) -> set[int]:
    """Llama 4: the layers with rotary positions look back to the beginning of their chunk."""
    rotary = config.first("no_rope_layers") or []
    if rotary:
        return {number for number, has_rope in enumerate(rotary[:layers]) if has_rope}
    return {number for number in range(layers) if (number + 1) % 4}
