"""Sparse attention: an indexer finds, by keys of its own, the tokens that latent attention looks at
(DeepSeek V3.2, GLM 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestrator.estimate.model_json import ModelJson

#: Elements that one scale is for, and its size in bytes.
_GROUP: Final = 128
_SCALE_BYTES: Final = 4
_EXACT_BYTES: Final = 2
#: The first layer that may look where another does (`DeepseekV2MLAAttention` in vLLM 0.32).
_FIRST_SHARED: Final = 2


def index_layers(config: ModelJson, attends: Sequence[bool]) -> int:
    """Return how many of the layers that attend have an indexer; the others look where one before
    them does: `index_topk_freq`, or an `S` in `index_topk_pattern`."""
    if not config.figure("index_head_dim"):
        return 0
    pattern = config.first("index_topk_pattern")
    if pattern:
        shared = [pattern[number : number + 1] == "S" for number in range(len(attends))]
    else:
        period, offset = config.figure("index_topk_freq") or 1, _offset(config)
        shared = [max(number - offset + 1, 0) % period > 0 for number in range(len(attends))]
    return sum(own and not each for own, each in zip(attends, shared, strict=True))


def index_bytes(config: ModelJson) -> int:
    """Return the bytes of a token's key in an indexer: 8 bits each, with scales."""
    width = config.figure("index_head_dim") or 0
    return width + width // _GROUP * _SCALE_BYTES


def packed_bytes(config: ModelJson, rank: int) -> int:
    """Return the bytes of a token in a cache of eight bits: what is compressed with its scales, and
    the part with positions as it is (vLLM's `fp8_ds_mla`); 0 without an indexer."""
    if not config.figure("index_head_dim"):
        return 0
    rotary = (config.figure("qk_rope_head_dim") or 0) * _EXACT_BYTES
    return rank + rank // _GROUP * _SCALE_BYTES + rotary


def _offset(config: ModelJson) -> int:
    given = config.figure("index_skip_topk_offset")
    return _FIRST_SHARED if given is None else given
