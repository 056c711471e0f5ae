"""The memory that one token takes while a layer works on it, in a step full of prompt tokens."""

from __future__ import annotations

from typing import Final

import msgspec

from orchestrator.estimate.layers.states import mamba_head_dim, mamba_heads
from orchestrator.estimate.model_json import ModelJson

#: Tokens that vLLM's kernels of a gated delta net take at once (`FLA_CHUNK_SIZE`), and those of
#: Mamba 2 where the configuration does not say (Mamba2Config).
_DELTA_CHUNK: Final = 64
_MAMBA_CHUNK: Final = 256
_FLOAT: Final = 4
#: Families whose MLP has an up and a down projection alone, with the function between them.
_PLAIN_MLP: Final = frozenset(
    {"apertus", "arcee", "bert", "bloom", "camembert", "codegen", "falcon", "gpt-sw3", "gpt2"}
    | {"gpt_bigcode", "gpt_neox", "gptj", "mpt", "nemotron", "nemotron_h", "opt", "persimmon"}
    | {"phi", "roberta", "starcoder2", "xlm-roberta", "xlm-roberta-xl"}
)
_PLAIN_FUNCTIONS: Final = ("relu2", "xielu")


class ScanWidth(msgspec.Struct, frozen=True):
    """A token in a recurrent layer: elements of the model's type, and bytes beside them."""

    elements: int = 0
    fixed_bytes: int = 0


def is_gated(config: ModelJson) -> bool:
    """Whether an MLP multiplies two projections. If not, its function is computed in place: torch's
    inductor uses the buffer of the projection again for a result of the same size."""
    function = config.first("hidden_act", "mlp_hidden_act", "hidden_activation")
    return config.first("model_type") not in _PLAIN_MLP and function not in _PLAIN_FUNCTIONS


def scan_width(config: ModelJson, hidden: int) -> ScanWidth:
    """Return what a token takes in a recurrent layer; nothing for a kind that is not known."""
    if config.figure("linear_num_value_heads"):
        return _delta_net(config)
    heads = mamba_heads(config)
    return _mamba_2(config, heads, hidden) if heads else ScanWidth()


def _mamba_2(config: ModelJson, heads: int, hidden: int) -> ScanWidth:
    """Projection, convolution and output of `MambaMixer2`; and for each chunk of tokens, in
    float32, its states (as computed, and as passed on), the products of C and B, and three figures
    a head (`_mamba_chunk_scan_combined_fwd` in vLLM 0.26 to 0.33)."""
    state = config.figure("mamba_d_state", "ssm_state_size", "state_size") or 128
    groups = config.figure("mamba_n_groups", "mamba_ngroups", "n_groups") or 1
    width = mamba_head_dim(config)
    expand = config.figure("mamba_expand", "expand") or 2
    inner = heads * width if width else expand * hidden
    chunk = config.figure("mamba_chunk_size", "chunk_size") or _MAMBA_CHUNK
    convolved = inner + 2 * groups * state
    states = 2 * inner * state * _FLOAT // chunk
    products = groups * chunk * _FLOAT
    return ScanWidth(
        elements=(inner + convolved + heads) + convolved + inner,
        fixed_bytes=states + products + 3 * heads * _FLOAT,
    )


def _delta_net(config: ModelJson) -> ScanWidth:
    """Projections, convolution, queries, keys and values of each value head, those that the delta
    rule makes of them and its output; the states of each chunk, and its products of keys
    (`chunk_gated_delta_rule` in vLLM 0.26 to 0.33)."""
    key = config.figure("linear_key_head_dim") or 0
    value = config.figure("linear_value_head_dim") or 0
    key_heads = config.figure("linear_num_key_heads") or 0
    heads = config.figure("linear_num_value_heads") or 0
    keys, values = key_heads * key, heads * value
    projected = 2 * keys + 2 * values + 2 * heads
    convolved = 2 * keys + values
    # Of the rule: w as wide as keys, u and the new values as wide as values, and the output.
    ruled = heads * key + 3 * values
    states = heads * key * value // _DELTA_CHUNK
    return ScanWidth(
        elements=projected + 2 * convolved + ruled + states + heads * _DELTA_CHUNK,
        fixed_bytes=heads * _DELTA_CHUNK * _FLOAT + 2 * heads * _FLOAT,
    )
