"""Sparse attention: an indexer finds, by keys of its own, the tokens that latent attention
(DeepSeek V3.2, GLM 5, HY V4) or attention as usual (MiniMax M3) looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from orchestrator.estimate.model_json import ModelJson

#: Elements that one scale is for, and its size in bytes.
_GROUP: Final = 128
_SCALE_BYTES: Final = 4
_EXACT_BYTES: Final = 2
#: The first layer that may look where another does (`DeepseekV2MLAAttention` in vLLM 0.32).
_FIRST_SHARED: Final = 2
#: Families that say of each layer whether it is sparse, and whether it has an indexer of its own.
_BY_TYPE: Final = ("hy_v4",)
#: Names of such layers in `layer_types`.
SPARSE_TYPES: Final = (
    "deepseek_sparse_attention",
    "indexed_attention",
    "sparse",
    "sparse_attention",
)


class Indexer(msgspec.Struct, frozen=True):
    """An indexer of latent attention (of `rank` elements, and `rotary` ones with positions), or of
    layers that compress. Each token looks at so many `chosen` entries, of `every` tokens each."""

    chosen: int
    key_bytes: int
    rank: int
    rotary: int
    every: int = 1


def indexer_of(config: ModelJson) -> Indexer | None:
    """Return what decides the memory that it works in; None without one of these kinds."""
    chosen = config.figure("index_topk")
    if not chosen or not config.figure("index_head_dim") or config.first("sparse_attention_config"):
        return None
    ratios = [each for each in ratios_of(config) if each > 0]
    return Indexer(
        chosen=chosen,
        key_bytes=index_key_bytes(config),
        rank=config.figure("kv_lora_rank") or 0,
        rotary=config.figure("qk_rope_head_dim") or 0,
        every=min(ratios, default=1),
    )


def ratios_of(config: ModelJson) -> list[int]:
    """Return how many tokens share an entry of each layer, where some compress (DeepSeek V4): as it
    was published, or by the layers' types, as transformers saves it. vLLM 0.33 reads both, the
    types first; 0.32 reads what was published alone."""
    rates, types = config.first("compress_rates"), config.first("layer_types")
    if rates and types:
        return [rates.get(each, 0) for each in types]
    return config.first("compress_ratios") or []


def index_layers(config: ModelJson, attends: Sequence[bool]) -> int:
    """Return how many of the layers that attend have an indexer; the others look where one before
    them does, or everywhere."""
    sparse = config.first("sparse_attention_config")
    if sparse is not None:
        return sum(map(bool, sparse.sparse_attention_freq or ()))
    if not config.figure("index_head_dim"):
        return 0
    types = config.first("layer_types") or ()
    if config.model_type in _BY_TYPE:
        attends = [kind in SPARSE_TYPES for kind in types]
    shared = _shared(config, len(attends))
    return sum(own and not each for own, each in zip(attends, shared, strict=True))


def _shared(config: ModelJson, layers: int) -> list[bool]:
    """Return which layers look where another does: by name, by an `S` in `index_topk_pattern`, or
    by `index_topk_freq`."""
    pattern, kinds = config.first("index_topk_pattern"), config.first("indexer_types")
    if kinds and config.model_type in _BY_TYPE:
        return [kinds[number : number + 1] == ["shared"] for number in range(layers)]
    if pattern:
        return [pattern[number : number + 1] == "S" for number in range(layers)]
    period, given = config.figure("index_topk_freq") or 1, config.figure("index_skip_topk_offset")
    offset = _FIRST_SHARED if given is None else given
    return [max(number - offset + 1, 0) % period > 0 for number in range(layers)]


def index_bytes(config: ModelJson) -> int:
    """Return the bytes of a token's key in an indexer: 8 bits each with scales, or 16 bits."""
    sparse = config.first("sparse_attention_config")
    if sparse is not None:
        return (sparse.sparse_index_dim or 0) * _EXACT_BYTES
    return index_key_bytes(config)


def index_key_bytes(config: ModelJson) -> int:
    """Return the bytes of a key of 8 bits an element, with its scales."""
    width = config.figure("index_head_dim") or 0
    return width + width // _GROUP * _SCALE_BYTES


def packed_bytes(config: ModelJson, rank: int) -> int:
    """Return the bytes of a token in a cache of eight bits: what is compressed with its scales, and
    the part with positions as it is (vLLM's `fp8_ds_mla`); 0 without an indexer."""
    if not config.figure("index_head_dim"):
        return 0
    rotary = (config.figure("qk_rope_head_dim") or 0) * _EXACT_BYTES
    return rank + rank // _GROUP * _SCALE_BYTES + rotary
