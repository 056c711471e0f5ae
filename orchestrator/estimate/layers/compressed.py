"""Layers that keep one entry for several tokens, beside a window of single ones (DeepSeek V4 and
V4.1). As vLLM 0.32 and 0.33 lay them out: attention.py and compressor.py of vllm/models/deepseek_v4
and deepseek_v41, for the records of Hopper's kernels."""

from __future__ import annotations

from collections import Counter
from typing import Final

from orchestrator.estimate.layers.indexers import index_key_bytes, ratios_of
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.model_json import ModelJson

#: Tokens in a page of entries, and in one of a window (V4, V4.1); a page is as long as a multiple
#: of this many bytes.
_PAGE_TOKENS: Final = 256
_WINDOW_TOKENS: Final = 64
_SHORTER_WINDOW_TOKENS: Final = 32
_ALIGNED_BYTES: Final = 576
_FLOAT: Final = 4
#: Ratios whose windows overlap: an entry is made of twice as many tokens, and has an indexer.
_OVERLAPPING: Final = 4
#: Rows of the states that a page has, by ratio; and those of a ring in V4.1.
_STATE_ROWS: Final = {4: 4, 128: 8}
_RING_ROWS: Final = 8


def compressed_layers(config: ModelJson, layers: int) -> list[CacheLayers]:
    """Return what each layer keeps, by how much it compresses; nothing if none does."""
    ratios = ratios_of(config)[:layers]
    if not ratios:
        return []
    window = config.figure("sliding_window") or 0
    record = _record_bytes(config)
    sources = config.first("kv_source_layer_ids")
    rows = _WINDOW_TOKENS if sources is None else _SHORTER_WINDOW_TOKENS
    found = [_window(layers, window, _entry_bytes(record, rows), rows)]
    if sources is None:
        for ratio, count in sorted(Counter(ratios).items()):
            found += _with_windows(config, ratio, count, record)
        return found
    for ratio, count in sorted(Counter(ratios[each] for each in sources if each < layers).items()):
        found += _with_rings(config, ratio, count, record)
    return found


def _with_windows(config: ModelJson, ratio: int, count: int, record: int) -> list[CacheLayers]:
    """V4: the tokens that an entry is made of are in windows of their own."""
    if ratio <= 1:
        return []
    found = [_entries(count, ratio, record)]
    widths = [config.figure("head_dim") or 0]
    if ratio == _OVERLAPPING:
        found.append(_entries(count, ratio, index_key_bytes(config)))
        widths.append(config.figure("index_head_dim") or 0)
    overlap = 2 if ratio == _OVERLAPPING else 1
    rows = _STATE_ROWS.get(ratio, 1)
    for width in widths:
        # A value and a score for each element.
        row = 2 * overlap * width * _FLOAT
        found.append(_window(count, overlap * ratio, _entry_bytes(row, rows), rows))
    return found


def _with_rings(config: ModelJson, ratio: int, count: int, record: int) -> list[CacheLayers]:
    """V4.1: some layers compress for all, with an indexer; what they compress is in a ring."""
    if ratio < 1:
        return []
    found = [_entries(count, ratio, each) for each in (record, index_key_bytes(config))]
    if ratio > 1:
        ring = _RING_ROWS * 2 * (config.figure("head_dim") or 0) * _FLOAT
        found.append(CacheLayers("state", count, state_bytes=ring))
    return found


def _record_bytes(config: ModelJson) -> int:
    """Return the bytes of an entry: in eight bits with a scale for 64 elements (and one more), and
    the part with positions as it is."""
    rotary = config.figure("qk_rope_head_dim") or 0
    plain = (config.figure("head_dim") or 0) - rotary
    return plain + 2 * rotary + plain // 64 + 1


def _entries(layers: int, ratio: int, entry: int) -> CacheLayers:
    size = _entry_bytes(entry, _PAGE_TOKENS // ratio)
    return CacheLayers(
        "full", layers, is_shared=True, fixed_bytes=size, every=ratio, block=_PAGE_TOKENS
    )


def _window(layers: int, window: int, size: int, rows: int) -> CacheLayers:
    return CacheLayers(
        "window", layers, is_shared=True, window=window, fixed_bytes=size, block=rows
    )


def _entry_bytes(entry: int, in_a_page: int) -> int:
    """Return the bytes of an entry with its part of what fills up a page."""
    page = -(-entry * in_a_page // _ALIGNED_BYTES) * _ALIGNED_BYTES
    return -(-page // in_a_page)
