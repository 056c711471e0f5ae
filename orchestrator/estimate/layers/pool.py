"""One pool of blocks for layers of several widths (DeepSeek V4). A block holds a page of each layer
of a group, and is as large as the widest group's pages together. Groups are those that vLLM 0.32
makes (`_get_packed_kv_cache_groups`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from orchestrator.estimate.layers.kept import CacheLayers


class Bucket(NamedTuple):
    """Layers whose blocks hold the same tokens, by their pages: how many have each size."""

    like: CacheLayers
    pages: tuple[tuple[int, int], ...]

    @property
    def layers(self) -> int:
        return sum(count for count, _ in self.pages)

    @property
    def is_full(self) -> bool:
        return self.like.kind == "full"

    @property
    def repeats(self) -> int:
        """Layers of each size, if that is the same number for all; else 0."""
        counts = {count for count, _ in self.pages}
        return counts.pop() if len(counts) == 1 else 0

    def width(self, groups: int) -> int:
        """Return the bytes of a block in the widest of so many groups."""
        return sum(math.ceil(count / groups) * page for count, page in self.pages)

    def blocks(self, tokens: int, in_flight: int) -> int:
        """Return the blocks of a sequence of so many tokens in one group, of which the engine is
        to compute so many (`in_flight`)."""
        if self.like.kind == "state":
            return 1
        if self.is_full:
            return math.ceil(tokens / self.like.block)
        kept = min(self.like.window - 1 + in_flight, tokens)
        return math.ceil(kept / self.like.block) + 1


class Pool(NamedTuple):
    block_bytes: int
    #: Each with the number of its groups.
    buckets: tuple[tuple[Bucket, int], ...]

    def bytes_for(self, sequences: int, tokens: int, in_flight: int) -> int:
        """Return the bytes of so many sequences of so many tokens, of one of which tokens are
        `in_flight`. The engine keeps a block for itself."""
        blocks = 1
        for bucket, groups in self.buckets:
            rest = (sequences - 1) * bucket.blocks(tokens, 0)
            blocks += groups * (bucket.blocks(tokens, in_flight) + rest)
        return blocks * self.block_bytes

    @property
    def bytes_per_token(self) -> float:
        """Of one more token of a sequence that is longer than any window."""
        full = ((each.like.block, groups) for each, groups in self.buckets if each.is_full)
        return sum(groups * self.block_bytes / block for block, groups in full)

    @property
    def bytes_to_begin(self) -> int:
        """Of a sequence of one token."""
        return self.block_bytes * sum(groups for _, groups in self.buckets)


def pool_of(caches: Iterable[CacheLayers], stages: int) -> Pool | None:
    """Return the pool of the largest of so many pipeline stages; None for layers whose blocks are
    all of one size, which need none like it."""
    buckets = _buckets(caches, stages)
    if not any(each.like.block for each in buckets):
        return None
    grouped = tuple(zip(buckets, _groups(buckets), strict=True))
    return Pool(max(each.width(count) for each, count in grouped), grouped)


def _buckets(caches: Iterable[CacheLayers], stages: int) -> list[Bucket]:
    found: dict[tuple[str, int, int], list[CacheLayers]] = {}
    for each in caches:
        found.setdefault((each.kind, each.window, each.block), []).append(each)
    return [
        Bucket(alike[0], tuple((math.ceil(each.layers / stages), _page(each)) for each in alike))
        for alike in found.values()
    ]


def _groups(buckets: Sequence[Bucket]) -> list[int]:
    """Return into how many groups each bucket's layers are divided."""
    repeats = _repeats_of_a_group(buckets)
    groups = [max(1, math.ceil(each.repeats / repeats) if repeats else 1) for each in buckets]
    small = [_is_small(each, repeats) for each in buckets]
    block = max(
        each.width(each.layers if is_small else count)
        for each, count, is_small in zip(buckets, groups, small, strict=True)
    )
    for number, (each, is_small) in enumerate(zip(buckets, small, strict=True)):
        if is_small:
            in_a_block = max(block // each.pages[0][1], 1)
            groups[number] = max(groups[number], math.ceil(each.layers / in_a_block))
    return groups


def _repeats_of_a_group(buckets: Sequence[Bucket]) -> int:
    """Return how many layers of each size a group has; 0 if no bucket has several sizes alike."""
    least = max((each.repeats for each in buckets if len(each.pages) > 1), default=0)
    return _divisor([each.repeats for each in buckets if each.repeats], least) if least else 0


def _page(each: CacheLayers) -> int:
    return each.state_bytes or each.fixed_bytes * each.block // each.every


def _is_small(bucket: Bucket, repeats: int) -> bool:
    """Whether its layers are put into blocks as large as the others need anyway."""
    return bucket.like.kind == "state" or (not repeats and bucket.like.kind == "window")


def _divisor(counts: Sequence[int], least: int) -> int:
    """Return the number, from `least` on, to whose multiples these are filled up with least; of
    several the largest (`_approximate_gcd`)."""
    candidates = range(least, max(counts) + 1)
    return min(candidates, key=lambda size: (sum(-count % size for count in counts), -size))
