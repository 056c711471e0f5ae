"""The memory that layers keep of each sequence: keys and values of all that was read and written,
and the states of recurrent layers. vLLM keeps all of it in one pool of blocks of one size."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from contract.config import ModelConfig
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.layers.pool import pool_of
from orchestrator.estimate.running import Running, figures_of, whole
from orchestrator.estimate.shape import Shape

#: Caches are handed out in blocks of this many tokens.
BLOCK_TOKENS: Final = 16
#: Steps of the engine whose tokens are on their way at once (vLLM's async scheduling).
_STEPS_AT_ONCE: Final = 2
#: vLLM (`get_kv_cache_groups`) makes groups as large as the most numerous kind if that is not
#: more than this many times the least numerous one.
_CLOSE: Final = 1.5


class KvCache(msgspec.Struct, frozen=True):
    """The cache that grows with the context, on each GPU. The engine runs with any size from
    `least_bytes` (one sequence of the full context) on; `wanted_bytes` serve `sequences`."""

    bytes_per_token: int
    context_len: int
    sequences: int
    least_bytes: int
    wanted_bytes: int
    #: Of it, what each sequence has however long it is: states of recurrent layers, and what
    #: cross-attention keeps.
    state_bytes: int = 0
    #: The least that one more sequence takes: it bounds how many a cache allows at once.
    bytes_to_begin: int = 0
    #: Sequences that the engine may run at once; as many as it likes if 0.
    max_sequences: int = 0

    @property
    def bytes_per_planned_token(self) -> int:
        """The bytes of a token of a full sequence, with its part of the states."""
        return self.bytes_per_token + math.ceil(self.state_bytes / max(1, self.context_len))


class _Layout(NamedTuple):
    """How the layers of the largest pipeline stage share the pool on one GPU."""

    #: With their numbers rounded up to whole groups.
    groups: tuple[tuple[CacheLayers, int], ...]
    block_tokens: int
    #: Bytes that a block takes in each attention layer; that a state takes.
    state_page_bytes: float


def planned_cache(model: ModelConfig, engine: str, shape: Shape, run: Running) -> KvCache:
    """Return the cache for as many sequences as the configuration asks for, or as large as
    `engine_args` say."""
    least = bytes_for(1, shape, run)
    wanted = bytes_for(run.wanted_sequences, shape, run)
    figures = figures_of(engine)
    given = whole(model.engine_args, figures.kv_cache_bytes)
    tokens = whole(model.engine_args, figures.kv_cache_tokens)
    if tokens:
        given = tokens * bytes_per_token(shape, run)
    if given:
        least = wanted = given
    return KvCache(
        bytes_per_token=bytes_per_token(shape, run),
        context_len=run.context_len,
        sequences=run.wanted_sequences,
        least_bytes=least,
        wanted_bytes=max(least, wanted),
        state_bytes=state_bytes(shape, run),
        bytes_to_begin=bytes_to_begin(shape, run),
        max_sequences=run.max_sequences,
    )


def unread(shape: Shape, run: Running) -> str:
    """Return why the engine does not start with so few tokens in a step, if it does not: an encoder
    beside a decoder takes a sound as a whole (`compute_mm_encoder_budget` in vLLM 0.26 to 0.33)."""
    whole_sound = max((each.window for each in shape.caches if each.kind == "cross"), default=0)
    if whole_sound <= run.batched_tokens:
        return ""
    return (
        f"a sound is {whole_sound} tokens and a step has {run.batched_tokens}, so vLLM does not "
        "start: set `max_num_batched_tokens` in `engine_args`"
    )


def bytes_per_token(shape: Shape, running: Running) -> int:
    """Return the bytes that one more token takes on each GPU while every layer keeps it.

    Keys and values: layers x ceil(KV heads / tp) x ((width of a key and of a value) x element +
    scales), by the cache's type.
    Multi-head latent attention: layers x (kv_lora_rank + qk_rope_head_dim) x element, the whole
    of it on every GPU. In a pool of blocks of one size, its part of them.
    """
    if pool := pool_of(shape.caches, running.pipeline_parallel):
        return math.ceil(pool.bytes_per_token)
    return math.ceil(
        sum(
            math.ceil(each.layers / running.pipeline_parallel) * _token_bytes(each, running)
            for each in shape.caches
            if each.kind != "cross"
        )
    )


def bytes_for(sequences: int, shape: Shape, running: Running) -> int:
    """The cache on each GPU for so many sequences of the full context, with their states.

    Where the engine frees what is behind a window, layers with one keep that, and the tokens of
    the steps that are under way while they read a prompt (vLLM's
    `SlidingWindowSpec.max_admission_blocks_per_request`). The engine needs a block for itself.
    """
    if sequences == 0:
        return 0
    if pool := pool_of(shape.caches, running.pipeline_parallel):
        in_flight = _STEPS_AT_ONCE * running.batched_tokens
        return pool.bytes_for(sequences, running.context_len, in_flight)
    layout = _layout(shape, running)
    return math.ceil(
        sum(count * _layer_bytes(each, sequences, layout, running) for each, count in layout.groups)
    )


def bytes_to_begin(shape: Shape, running: Running) -> int:
    """Return the bytes of the shortest sequence: its states, and a block in each layer. So many
    bytes of cache allow one more sequence at once."""
    if pool := pool_of(shape.caches, running.pipeline_parallel):
        return pool.bytes_to_begin
    layout = _layout(shape, running)
    return math.ceil(
        sum(count * _least_bytes(each, layout, running) for each, count in layout.groups)
    )


def state_bytes(shape: Shape, running: Running) -> int:
    """Return the bytes that one sequence has on each GPU, however long it is: its states, and
    what cross-attention keeps; 0 without such layers."""
    layout = _layout(shape, running)
    return math.ceil(
        sum(
            count * _least_bytes(each, layout, running)
            for each, count in layout.groups
            if each.kind in ("state", "cross")
        )
    )


def _layout(shape: Shape, running: Running) -> _Layout:
    own = [(each, math.ceil(each.layers / running.pipeline_parallel)) for each in shape.caches]
    # An indexer's keys lie beside those of its own layer, in the same blocks.
    counts = [count for each, count in own if not each.fixed_bytes] or [1]
    group = max(counts) if max(counts) < _CLOSE * min(counts) else min(counts)
    if all(each.kind == "full" for each in shape.caches):
        # Each layer has its own blocks, of its own width (vLLM's `UniformTypeKVCacheSpecs`).
        group = 1
    groups = tuple((each, math.ceil(count / group) * group) for each, count in own)
    state = max((each.state_bytes for each, _ in groups), default=0) / running.tensor_parallel
    token = max((_token_bytes(each, running) for each, _ in groups), default=0)
    if not state or not token:
        return _Layout(groups, BLOCK_TOKENS, state)
    # Of all, the largest page decides: a block of attention holds at least a state.
    tokens = math.ceil(state / token / BLOCK_TOKENS) * BLOCK_TOKENS
    return _Layout(groups, tokens, tokens * token)


def _layer_bytes(each: CacheLayers, sequences: int, layout: _Layout, running: Running) -> float:
    block = _block_bytes(each, layout, running)
    if each.kind == "state":
        return block * (sequences + 1)
    if each.kind == "cross":
        # The engine starts only if a step full of an encoder's tokens has room
        # (`CrossAttentionSpec.max_memory_usage_bytes`).
        most = max(each.window, running.batched_tokens)
        kept = _blocks(each.window, layout.block_tokens) * (sequences - 1)
        return block * (kept + _blocks(most, layout.block_tokens) + 1)
    size, context = layout.block_tokens, running.context_len
    if each.kind == "full" or not running.keeps_windows_only:
        return block * (_blocks(context, size) * sequences + 1)
    in_flight = _STEPS_AT_ONCE * running.batched_tokens
    kept = min(context, each.window + size)
    reading = min(context, each.window + size + in_flight)
    return block * (_blocks(kept, size) * (sequences - 1) + _blocks(reading, size) + 1)


def _least_bytes(each: CacheLayers, layout: _Layout, running: Running) -> float:
    """Of a sequence of one token."""
    blocks = _blocks(each.window, layout.block_tokens) if each.kind == "cross" else 1
    return blocks * _block_bytes(each, layout, running)


def _block_bytes(each: CacheLayers, layout: _Layout, running: Running) -> float:
    if each.kind == "state":
        return layout.state_page_bytes
    return layout.block_tokens * _token_bytes(each, running)


def _blocks(tokens: int, block_tokens: int) -> int:
    return math.ceil(tokens / block_tokens)


def _token_bytes(each: CacheLayers, running: Running) -> float:
    if each.kind == "state":
        return 0
    kept = running.kv_type
    if each.packed_bytes and kept.element_bytes == 1:
        return each.packed_bytes
    heads = each.heads if each.is_shared else math.ceil(each.heads / running.tensor_parallel)
    return kept.token_bytes(heads, each.elements, each.layers) + each.fixed_bytes / each.every
