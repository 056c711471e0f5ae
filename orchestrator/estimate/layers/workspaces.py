"""The memory in which sparse attention works: keys that it gathers for the prompts of a step. vLLM
reserves it when it starts, once for all layers and as much as the largest of its uses takes.

As vLLM 0.32 has it for Hopper: `get_max_prefill_buffer_size` and `sparse_attn_indexer` for the
indexer, `FlashMLASparseImpl` for DeepSeek V3.2, GLM 5 and HY V4, `DeepseekV4FlashMLAAttention`.
"""

from __future__ import annotations

import math
from typing import Final

from orchestrator.estimate.layers.indexers import Indexer
from orchestrator.estimate.parts import Part
from orchestrator.estimate.running import Running
from orchestrator.estimate.shape import Shape

#: Contexts of the longest length that are gathered at once (`sparse_mla_prefill_workspace_factor`),
#: and those of longer models.
_CONTEXTS: Final = 5
_LONG: Final = 256 * 1024
_LONG_CONTEXTS: Final = 2
#: An indexer gathers as many times more keys as they are smaller than a gathered entry.
_KEYS_OF_AN_ENTRY: Final = 576 * 2 // 132
_RADIX_BYTES: Final = 2**20
#: Heads of queries are filled up to a multiple of this.
_HEADS: Final = 64
#: Prompts whose entries DeepSeek V4 gathers at once.
_PROMPTS: Final = 4
_EXACT_BYTES: Final = 2
_INDEX_BYTES: Final = 4
#: Chosen entries of V4 and those of its window, together in multiples of this.
_CHOSEN: Final = 128


def sparse_workspace(shape: Shape, run: Running) -> Part:
    """The workspace, and where the indexer writes which tokens it has chosen."""
    index = shape.indexer
    if index is None:
        return Part("indexer", 0, "")
    contexts = _CONTEXTS if run.context_len <= _LONG else _LONG_CONTEXTS
    gathered = contexts * run.context_len
    keys = gathered * _KEYS_OF_AN_ENTRY // index.every * index.key_bytes + _RADIX_BYTES
    if index.rank:
        work = _latent(shape, run, index, gathered if run.kv_type.element_bytes == 1 else 0)
    else:
        work = _compressed(shape, run, index)
    size = max(keys, work) + run.batched_tokens * index.chosen * _INDEX_BYTES
    return Part("indexer", size, "what sparse attention gathers for the prompts of a step")


def _latent(shape: Shape, run: Running, index: Indexer, gathered: int) -> int:
    """Queries of a step; beside a packed cache also the entries that are unpacked, and queries and
    results of as many heads as the kernel takes."""
    heads, width = shape.heads // run.tensor_parallel, index.rank + index.rotary
    filled = math.ceil(heads / _HEADS) * _HEADS
    if not gathered:
        return run.batched_tokens * filled * width * _EXACT_BYTES
    a_token = heads * width + filled * (width + index.rank) + heads * index.rank
    return (run.batched_tokens * a_token + gathered * width) * _EXACT_BYTES


def _compressed(shape: Shape, run: Running, index: Indexer) -> int:
    """The entries of some prompts, with the tokens of their windows and of the step; and which of
    them each token looks at."""
    window = max((each.window for each in shape.caches if each.kind == "window"), default=0)
    entries = math.ceil(run.context_len / index.every) + window + run.batched_tokens
    looked_at = math.ceil((index.chosen + window) / _CHOSEN) * _CHOSEN
    chosen = run.batched_tokens * (looked_at + 1) * _INDEX_BYTES
    return _PROMPTS * entries * shape.head_dim * _EXACT_BYTES + chosen
