"""One pool of blocks for layers of several widths, as vLLM's allocator divides it."""

from __future__ import annotations

from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.layers.pool import pool_of


def full(layers: int, size: int, every: int = 1) -> CacheLayers:
    return CacheLayers("full", layers, is_shared=True, fixed_bytes=size, every=every, block=256)


def window(layers: int, size: int, block: int, looks_back: int = 128) -> CacheLayers:
    return CacheLayers(
        "window", layers, is_shared=True, window=looks_back, fixed_bytes=size, block=block
    )


def test_layers_of_one_width_need_no_pool() -> None:
    assert pool_of([CacheLayers("full", 32, 8, 256)], 1) is None


def test_a_block_is_as_large_as_the_widest_group() -> None:
    pool = pool_of([full(20, 100), full(21, 40, every=4), window(4, 10, 8)], 1)
    assert pool is not None
    assert pool.block_bytes == 20 * 100 * 256 + 21 * 40 * 64
    # One block for the engine, one for a token in each of two groups.
    assert pool.bytes_for(1, 1, 0) == (1 + 2 + 1) * pool.block_bytes
    assert pool.bytes_to_begin == 2 * pool.block_bytes
    # A token's part of the blocks that hold the whole context.
    assert pool.bytes_per_token == pool.block_bytes / 256


def test_many_layers_are_divided_into_groups_like_those_of_two_widths() -> None:
    # 21 pairs in one group; of 43 alike two groups of 22, as the next multiple would waste more.
    pairs = [window(21, 100, 4, 8), window(21, 50, 4, 8)]
    pool = pool_of([*pairs, window(43, 30, 64)], 1)
    assert pool is not None
    assert [groups for _, groups in pool.buckets] == [1, 2]
    assert pool.block_bytes == 22 * 30 * 64


def test_windows_take_no_more_than_a_block_holds_anyway() -> None:
    pool = pool_of([full(2, 100), full(3, 50), window(43, 30, 64)], 1)
    assert pool is not None
    # 89 600 bytes of the whole context hold 46 pages of 1 920, and all 43 in one group.
    assert [groups for _, groups in pool.buckets] == [1, 1]
    narrow = pool_of([full(1, 100), full(2, 50), window(43, 30, 64)], 1)
    assert narrow is not None
    # 51 200 bytes hold 26.
    assert [groups for _, groups in narrow.buckets] == [1, 2]


def test_a_sequence_that_waits_keeps_its_window_only() -> None:
    pool = pool_of([full(1, 100), full(2, 50), window(8, 30, 64)], 1)
    assert pool is not None
    one, two = pool.bytes_for(1, 4096, 2048), pool.bytes_for(2, 4096, 2048)
    # 16 blocks of the whole context; of the window 127 tokens, and where they begin in a block.
    assert two - one == (16 + 3) * pool.block_bytes
    # The tokens on their way are kept until the next ones are.
    assert one == (1 + 16 + 35) * pool.block_bytes
