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
EXPERTS_OF_A_TOKEN: Final = (
    *("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    *("moe_topk", "moe_top_k", "moe_k"),
)
#: Families whose embedding has places in vLLM 0.32, and those whose head has some, too.
_ONLY_EMBEDDING: Final = frozenset(
    {"arcee", "cohere", "cohere2", "cwm", "emu3_text_model", "flex_olmo", "glm", "gpt_bigcode"}
    | {"gpt_neox", "hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan_vl_text", "jais2", "mellum"}
    | {"nanbeige", "olmo", "olmo2", "olmo3", "phi", "seed_oss", "smollm3", "starcoder2"}
    | {"vaultgemma"}
)
_WITH_WORDS: Final = _ONLY_EMBEDDING | frozenset(
    {"apertus", "deci", "ernie4_5", "exaone", "exaone4", "exaone_moe", "falcon_h1", "granite"}
    | {"granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared"}
    | {"hyperclovax", "internlm3", "iquestcoder", "jamba", "k2_horizon", "lfm2", "lfm2_moe"}
    | {"llama", "llama4_text", "minicpm", "minicpm3", "mixtral", "nemotron", "nemotron-nas"}
    | {"nemotron_h", "param2moe", "phi3", "phimoe", "qwen3", "qwen3_5_moe_text", "qwen3_5_text"}
    | {"qwen3_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "solar", "telechat3"}
)


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
    """Work it out for the layers of a decoder of which no weights tell. `queries` and `keys` are as
    wide as all heads and all KV heads together, `inner` as the MLP."""
    # Queries, keys and values are divided where they come out, the attention's output goes in so.
    attention = AdapterWidths(4 * hidden, 2 * queries + 2 * keys)
    experts = config.figure(*EXPERTS) or 0
    dense = _mlp(hidden, inner, is_gated=is_gated(config))
    if not experts or not config.figure(*EXPERTS_OF_A_TOKEN):
        return (attention + dense).times(layers)
    width = config.figure("moe_intermediate_size") or inner
    expert = _mlp(hidden, width, is_gated=is_gated(config))
    shared = expert.times(config.figure("n_shared_experts") or 0)
    router = AdapterWidths(hidden + experts)
    first = min(layers, config.figure("first_k_dense_replace") or 0)
    mixture = expert.times(experts) + shared + router
    return attention.times(layers) + dense.times(first) + mixture.times(layers - first)


def word_widths(config: ModelJson, hidden: int) -> AdapterWidths:
    """Return those of the embedding and the head, where vLLM's class of the family has places
    there (`embedding_modules`)."""
    if config.first("model_type") not in _WITH_WORDS:
        return AdapterWidths()
    ends = 1 if config.first("model_type") in _ONLY_EMBEDDING else 2
    vocabulary = config.figure("vocab_size", "padded_vocab_size") or 0
    return AdapterWidths(ends * (vocabulary + hidden))


def _mlp(hidden: int, inner: int, *, is_gated: bool) -> AdapterWidths:
    """Gate, up and down; or up and down."""
    return AdapterWidths((2 + is_gated) * hidden, (2 + is_gated) * inner)
