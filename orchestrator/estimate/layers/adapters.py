"""The places that an engine keeps for LoRA adapters: two thin matrices beside each projection, as
wide as the largest rank, for every adapter that may be active at once, whether it is or not.

As vLLM (0.26 to 0.33) makes them in `create_lora_weights` of vllm/lora/layers: to the rank from
what goes in, from the rank to what comes out. Of the two, tensor parallelism divides the one at
the side where the projection itself is divided (without `fully_sharded_loras`). A mixture of
experts has them for each of its experts.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from orchestrator.estimate.layers.in_flight import is_gated
from orchestrator.estimate.model_json import ModelJson

#: Names of the number of experts in a layer, and of those that a token passes through.
EXPERTS: Final = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
EXPERTS_OF_A_TOKEN: Final = ("num_experts_per_tok", "moe_topk", "moe_k")


class AdapterWidths(msgspec.Struct, frozen=True):
    """Elements of one adapter for each unit of its rank: those that every GPU has, and those that
    tensor parallelism divides."""

    whole: int = 0
    divided: int = 0

    def __add__(self, other: AdapterWidths) -> AdapterWidths:
        return AdapterWidths(self.whole + other.whole, self.divided + other.divided)

    def times(self, count: int) -> AdapterWidths:
        return AdapterWidths(self.whole * count, self.divided * count)

    def elements(self, tensor_parallel: int) -> int:
        """Those on each GPU."""
        return self.whole + math.ceil(self.divided / tensor_parallel)


def adapter_widths(
    config: ModelJson, *, layers: int, hidden: int, queries: int, keys: int, inner: int
) -> AdapterWidths:
    """Work it out for a decoder of so many layers. `queries` and `keys` are as wide as all heads
    and all KV heads together, `inner` as the MLP. The embedding and the head are counted, though
    some families have no adapters there."""
    # Queries, keys and values are divided where they come out, the attention's output goes in so.
    attention = AdapterWidths(4 * hidden, 2 * queries + 2 * keys)
    experts = config.figure(*EXPERTS) or 0
    dense = _mlp(hidden, inner, is_gated=is_gated(config))
    words = AdapterWidths(2 * ((config.figure("vocab_size", "padded_vocab_size") or 0) + hidden))
    if not experts or not config.figure(*EXPERTS_OF_A_TOKEN):
        return (attention + dense).times(layers) + words
    width = config.figure("moe_intermediate_size") or inner
    expert = _mlp(hidden, width, is_gated=is_gated(config))
    shared = expert.times(config.figure("n_shared_experts") or 0)
    router = AdapterWidths(hidden + experts)
    first = min(layers, config.figure("first_k_dense_replace") or 0)
    mixture = expert.times(experts) + shared + router
    return attention.times(layers) + dense.times(first) + mixture.times(layers - first) + words


def _mlp(hidden: int, inner: int, *, is_gated: bool) -> AdapterWidths:
    """Gate, up and down; or up and down."""
    return AdapterWidths((2 + is_gated) * hidden, (2 + is_gated) * inner)
