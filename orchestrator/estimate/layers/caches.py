"""Which layers of a model keep what for each sequence: keys and values of the whole context, of a
window of it, or a state of fixed size. Families say it in many ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from orchestrator.errors import UserError
from orchestrator.estimate.layer_json import BlockJson
from orchestrator.estimate.layers.encoders import is_encoder
from orchestrator.estimate.layers.indexers import (
    SPARSE_TYPES,
    index_bytes,
    index_layers,
    packed_bytes,
)
from orchestrator.estimate.layers.states import ONLY_STATES, state_bytes
from orchestrator.estimate.model_json import ModelJson

Kind = Literal["full", "window", "state"]
#: More layers than any model has.
_MOST_LAYERS: Final = 100_000
#: One layer may keep both (Falcon-H1, Zamba2).
_BOTH: Final[tuple[Kind, ...]] = ("full", "state")
_NAMED: Final[dict[str, tuple[Kind, ...]]] = {
    "full_attention": ("full",),
    "attention": ("full",),
    "sliding_attention": ("window",),
    "chunked_attention": ("window",),
    "moe": (),
    "mlp": (),
    "hybrid": _BOTH,
    **dict.fromkeys(SPARSE_TYPES, ("full",)),
}
#: Of Nemotron-H: attention, Mamba; all else keeps nothing.
_LETTERS: Final[dict[str, tuple[Kind, ...]]] = {"*": ("full",), "M": ("state",)}
#: Their checkpoints have the ranks of latent attention, but vLLM runs them without it.
_NOT_LATENT: Final = ("minicpm3",)
#: Their window counts the tokens before a token, and not that token (vLLM's commandr.py).
_BESIDE_ITSELF: Final = ("cohere2", "cohere2_moe")
_ALL_HAVE_BOTH: Final = ("falcon_h1",)


class CacheLayers(msgspec.Struct, frozen=True):
    """Layers that keep the same. Sizes are those of the whole model, before it is divided."""

    kind: Kind
    layers: int
    #: KV heads; tensor parallelism divides them unless all GPUs keep the same (`is_shared`).
    heads: int = 1
    #: Elements of one key and one value together; of what latent attention keeps.
    elements: int = 0
    is_shared: bool = False
    #: Tokens that a windowed layer looks back.
    window: int = 0
    #: Bytes of one sequence's state in each layer.
    state_bytes: int = 0
    #: Bytes per token, where they do not depend on the cache's type.
    fixed_bytes: int = 0
    #: Bytes per token of a cache in eight bits, where it has scales and exact elements in it.
    packed_bytes: int = 0

    def __str__(self) -> str:
        if self.kind == "state":
            return f"{self.layers} recurrent layers of {self.state_bytes} bytes a sequence"
        what = f"a window of {self.window}" if self.window else "the whole context"
        width = f"{self.heads} x {self.elements}" if self.elements else f"{self.fixed_bytes} bytes"
        return f"{self.layers} layers that keep {what} ({width} a token)"


def cache_layers(config: ModelJson, layers: int, heads: int, hidden: int) -> list[CacheLayers]:
    """Return what a checkpoint's configuration says. Raises `UserError` if there are too many
    layers."""
    if layers > _MOST_LAYERS:
        raise UserError(f"no model has {layers} layers", "download the model again")
    if is_encoder(config):
        return []
    kept = _kinds(config, layers)
    shared = config.figure("num_kv_shared_layers") or 0
    # The last layers of Gemma 3n and 4 read what earlier ones keep.
    kept = kept[: len(kept) - shared] if 0 < shared < len(kept) else kept
    latent = _latent(config)
    found = []
    for kind in ("full", "window"):
        count = sum(kind in each for each in kept)
        if count:
            found.append(latent or _attention(config, kind, heads, hidden))
            found[-1] = msgspec.structs.replace(found[-1], kind=kind, layers=count)
    found += _index(config, ["full" in each for each in kept])
    states = sum("state" in each for each in kept)
    if states:
        found.append(CacheLayers("state", states, state_bytes=state_bytes(config, hidden)))
    return found


def _attention(config: ModelJson, kind: Kind, heads: int, hidden: int) -> CacheLayers:
    """Return the KV heads and their width; some families have others in one of the two kinds."""
    kv_heads, key = kv_heads_of(config, heads), head_dim_of(config, heads, hidden)
    value = config.figure("v_head_dim") or key
    if config.figure("kv_lora_rank"):
        # Latent attention as plain attention: all heads, keys of two parts.
        key = (config.figure("qk_nope_head_dim") or 0) + (config.figure("qk_rope_head_dim") or 0)
        return CacheLayers(kind, 0, heads, 2 * key)
    others = config.first("per_layer_config") or {}
    if kind == "full" and (config.figure("global_head_dim") or others):
        # Gemma 4: by keys of their own, or one by one.
        widths = [each.head_dim for each in others.values() if each.head_dim]
        counts = [each.num_key_value_heads for each in others.values() if each.num_key_value_heads]
        key = value = config.figure("global_head_dim") or max(widths, default=key)
        kv_heads = config.figure("num_global_key_value_heads") or max(counts, default=kv_heads)
    if kind == "window":
        kv_heads = config.figure("swa_num_key_value_heads") or kv_heads
        key = config.figure("swa_head_dim") or key
        value = config.figure("swa_v_head_dim") or value
    return CacheLayers(kind, 0, kv_heads, key + value, window=_window(config, kind))


def _window(config: ModelJson, kind: Kind) -> int:
    if kind == "full":
        return 0
    chunk = config.figure("attention_chunk_size")
    window = chunk or config.figure("sliding_window") or 0
    return window + (window > 0 and config.first("model_type") in _BESIDE_ITSELF)


def _latent(config: ModelJson) -> CacheLayers | None:
    """Multi-head latent attention keeps one compressed vector, the same on each GPU."""
    rank = config.figure("kv_lora_rank")
    if not rank or config.first("model_type") in _NOT_LATENT:
        return None
    elements = rank + (config.figure("qk_rope_head_dim") or 0)
    packed = packed_bytes(config, rank)
    return CacheLayers("full", 0, 1, elements, is_shared=True, packed_bytes=packed)


def _index(config: ModelJson, attends: Sequence[bool]) -> list[CacheLayers]:
    layers = index_layers(config, attends)
    if not layers:
        return []
    return [CacheLayers("full", layers, is_shared=True, fixed_bytes=index_bytes(config))]


def kv_heads_of(config: ModelJson, heads: int) -> int:
    """Return the largest number of KV heads in a layer."""
    is_grouped = config.first("new_decoder_architecture")
    if config.first("multi_query") and not is_grouped:
        return 1
    if config.first("multi_query_attention"):
        return config.figure("multi_query_group_num") or 1
    names = ("num_key_value_heads", "n_head_kv", "num_kv_heads", "num_attention_groups")
    given = config.figure(*names)
    groups = [each.attention.n_heads_in_group or 0 for each in _blocks(config) if each.attention]
    if not given and max(groups, default=0):
        return heads // min(filter(None, groups))
    return given or heads


def head_dim_of(config: ModelJson, heads: int, hidden: int) -> int:
    names = ("head_dim", "attention_head_dim", "kv_channels", "hidden_size_per_head")
    given = config.figure(*names)
    return given if given is not None else hidden // heads


def _blocks(config: ModelJson) -> Sequence[BlockJson]:
    return config.first("block_configs") or ()


def _kinds(config: ModelJson, layers: int) -> list[tuple[Kind, ...]]:
    """Return what each layer keeps; the first way of saying it that the configuration uses."""
    numbers = range(layers)
    named: list[str] = config.first("layer_types", "layers_block_type") or []
    if named:
        return [_NAMED.get(name, ("state",)) for name in named]
    if letters := config.first("hybrid_override_pattern"):
        return [_LETTERS.get(letter, ()) for letter in letters]
    if _blocks(config):
        return [_pruned(block) for block in _blocks(config)]
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
