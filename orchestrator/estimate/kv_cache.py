"""The memory that attention keeps per token: keys and values of all that was read and written."""

from __future__ import annotations

import math
from typing import Final

from orchestrator.estimate.checkpoint import Shape
from orchestrator.estimate.running import Running

#: Caches are handed out in blocks of this many tokens.
BLOCK_TOKENS: Final = 16


def bytes_per_token(shape: Shape, running: Running) -> int:
    """What one more token takes on each GPU while every layer still keeps it.

    Keys and values: 2 x layers x ceil(kv_heads / tp) x head_dim x element; grouped-query models
    have fewer kv_heads than heads. Multi-head latent attention: layers x (kv_lora_rank +
    qk_rope_head_dim) x element, the whole of it on every GPU (engines.md A6, B7).
    """
    full, window = _layers(shape, running)
    return math.ceil((full + window) * _layer_bytes(shape, running))


def bytes_for(sequences: int, shape: Shape, running: Running) -> int:
    """The cache on each GPU for so many sequences of the full context.

    Sliding-window layers keep only their window, and one step's tokens while they read a prompt
    (vLLM's `SlidingWindowSpec.max_memory_usage_bytes`); the engine needs a block for itself.
    """
    if sequences == 0:
        return 0
    full, window = _layers(shape, running)
    context = running.context_len
    kept = min(context, shape.window + BLOCK_TOKENS)
    reading = min(context, shape.window + BLOCK_TOKENS + running.batched_tokens)
    tokens = full * (_blocks(context) * sequences + 1)
    tokens += window * (_blocks(kept) * (sequences - 1) + _blocks(reading) + 1)
    return math.ceil(tokens * BLOCK_TOKENS * _layer_bytes(shape, running))


def _blocks(tokens: int) -> int:
    return math.ceil(tokens / BLOCK_TOKENS)


def _layers(shape: Shape, running: Running) -> tuple[int, int]:
    """Full-context and sliding-window layers of the largest pipeline stage. Engines keep both
    kinds in groups of one size, so the more numerous kind is rounded up."""
    full = math.ceil(shape.full_layers / running.pipeline_parallel)
    window = math.ceil(shape.window_layers / running.pipeline_parallel)
    if not full or not window:
        return full, window
    group = min(full, window)
    return math.ceil(full / group) * group, math.ceil(window / group) * group


def _layer_bytes(shape: Shape, running: Running) -> float:
    if shape.latent_dim:
        return shape.latent_dim * running.kv_element_bytes
    heads = math.ceil(shape.kv_heads / running.tensor_parallel)
    return 2 * heads * shape.head_dim * running.kv_element_bytes
