"""Which layers of a model keep what for each sequence: keys and values of the whole context, of a
window of it, or a state of fixed size. Families say it in many ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from orchestrator.errors import UserError
from orchestrator.estimate.layers.compressed import compressed_layers
from orchestrator.estimate.layers.encoders import is_encoder
from orchestrator.estimate.layers.indexers import index_bytes, index_layers, packed_bytes
from orchestrator.estimate.layers.kept import CacheLayers, Kind
from orchestrator.estimate.layers.kinds import CONVOLVED, NAMED, blocks_of, kinds_of
from orchestrator.estimate.layers.loops import loop_window, with_loops
from orchestrator.estimate.layers.states import state_bytes
from orchestrator.estimate.model_json import ModelJson

#: More layers than any model has.
_MOST_LAYERS: Final = 100_000
#: Their checkpoints have the ranks of latent attention, but vLLM runs them without it.
_NOT_LATENT: Final = ("minicpm3",)
#: Their window counts the tokens before a token, and not that token (vLLM's commandr.py).
_BESIDE_ITSELF: Final = ("cohere2", "cohere2_moe")
_WINDOWS: Final = ("sliding_window", "sliding_window_size")
#: Elements of a convolved stream are kept in the model's type.
_MODEL_BYTES: Final = 2
_CONVOLVED_WINDOW: Final = 4


def cache_layers(config: ModelJson, layers: int, heads: int, hidden: int) -> list[CacheLayers]:
    """Return what a checkpoint's configuration says. Raises `UserError` if there are too many
    layers."""
    if layers > _MOST_LAYERS:
        raise UserError(f"no model has {layers} layers", "download the model again")
    if is_encoder(config):
        return []
    if compressed := compressed_layers(config, layers):
        return compressed
    kept = with_loops(config, kinds_of(config, layers))
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
    if encoded := config.figure("encoded_positions"):
        own = _attention(config, "full", heads, hidden)
        found.append(msgspec.structs.replace(own, kind="cross", layers=layers, window=encoded))
    found += _index(config, ["full" in each for each in kept])
    found += _convolved(config, layers, heads, hidden)
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
    other = config.first("attention_other_setting")
    if other is not None and NAMED.get(other.attention_type or "") == (kind,):
        kv_heads = other.num_attention_groups or kv_heads
        key = value = other.head_dim or key
    return CacheLayers(kind, 0, kv_heads, key + value, window=_window(config, kind))


def _window(config: ModelJson, kind: Kind) -> int:
    if kind == "full":
        return 0
    chunk = config.figure("attention_chunk_size")
    window = chunk or loop_window(config) or config.figure(*_WINDOWS) or 0
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


def _convolved(config: ModelJson, layers: int, heads: int, hidden: int) -> list[CacheLayers]:
    """Return the windows in which vLLM keeps the inputs of convolutions (Inkling): keys and values
    of the layers that have most heads, and two streams as wide as the model."""
    if config.first("model_type") not in CONVOLVED:
        return []
    kv_heads = max(kv_heads_of(config, heads), config.figure("swa_num_key_value_heads") or 0)
    elements = 2 * hidden + 2 * kv_heads * head_dim_of(config, heads, hidden)
    window = config.figure("sconv_kernel_size", "conv_kernel_size") or _CONVOLVED_WINDOW
    return [CacheLayers("window", layers, window=window, fixed_bytes=elements * _MODEL_BYTES)]


def kv_heads_of(config: ModelJson, heads: int) -> int:
    """Return the largest number of KV heads in a layer."""
    is_grouped = config.first("new_decoder_architecture")
    if config.first("multi_query") and not is_grouped:
        return 1
    if config.first("multi_query_attention"):
        return config.figure("multi_query_group_num") or 1
    names = ("num_key_value_heads", "n_head_kv", "num_kv_heads", "num_attention_groups")
    given = config.figure(*names)
    groups = [each.attention.n_heads_in_group or 0 for each in blocks_of(config) if each.attention]
    if not given and max(groups, default=0):
        return heads // min(filter(None, groups))
    return given or heads


def head_dim_of(config: ModelJson, heads: int, hidden: int) -> int:
    names = ("head_dim", "attention_head_dim", "kv_channels", "hidden_size_per_head")
    given = config.figure(*names)
    return given if given is not None else hidden // heads
