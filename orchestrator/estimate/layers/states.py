"""The states of recurrent layers: what a layer keeps of a sequence, whatever its length. Each is
the last inputs of a convolution, in the model's type, and mostly a matrix per head."""

from __future__ import annotations

from typing import Final

from orchestrator.estimate.layer_json import LinearAttentionJson
from orchestrator.estimate.model_json import ModelJson

_MODEL_BYTES: Final = 2
#: The type in which vLLM keeps matrices unless the checkpoint says otherwise.
_MATRIX_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_KERNEL: Final = 4
#: Models of recurrent layers alone.
MAMBA_2: Final = "mamba2"
ONLY_STATES: Final = ("mamba", MAMBA_2, "falcon_mamba")


def state_bytes(config: ModelJson, hidden: int) -> int:
    """One sequence's state in one layer, in bytes; 0 if the configuration does not say."""
    if config.figure("linear_num_value_heads"):
        return _delta_net(config)
    linear: LinearAttentionJson | None = config.first("linear_attn_config")
    if linear is not None:
        return _kimi_delta(linear)
    if config.figure("conv_L_cache"):
        kept = (config.figure("conv_L_cache") or 1) - 1
        return kept * (config.figure("conv_dim") or hidden) * _MODEL_BYTES
    if kernel := config.figure("short_conv_kernel_size"):
        own = LinearAttentionJson(None, _heads(config), config.figure("head_dim"), kernel)
        return _kimi_delta(own)
    if config.first("attn_type_list") or config.figure("layer_group_size"):
        heads, width = _heads(config), config.figure("head_dim") or 0
        # Bailing keeps it in the model's own type.
        is_exact = not config.first("attn_type_list")
        return heads * width * width * (_MODEL_BYTES if is_exact else _matrix_bytes(config))
    return _mamba(config, hidden)


def _heads(config: ModelJson) -> int:
    return config.figure("num_attention_heads") or 0


def _matrix_bytes(config: ModelJson) -> int:
    dtype = config.first("mamba_ssm_cache_dtype", "mamba_ssm_dtype") or "float32"
    return _MATRIX_BYTES.get(dtype, 4)


def _delta_net(config: ModelJson) -> int:
    """Gated DeltaNet (Qwen3-Next, Qwen3.5)."""
    key = config.figure("linear_key_head_dim") or 0
    value = config.figure("linear_value_head_dim") or 0
    value_heads = config.figure("linear_num_value_heads") or 0
    inputs = 2 * key * (config.figure("linear_num_key_heads") or 0) + value * value_heads
    kernel = config.figure("linear_conv_kernel_dim") or _KERNEL
    matrices = value_heads * key * value * _matrix_bytes(config)
    return (kernel - 1) * inputs * _MODEL_BYTES + matrices


def _kimi_delta(linear: LinearAttentionJson) -> int:
    heads, width = linear.num_heads or 0, linear.head_dim or 0
    kept = (linear.short_conv_kernel_size or _KERNEL) - 1
    return kept * 3 * heads * width * _MODEL_BYTES + heads * width * width * 4


def _mamba(config: ModelJson, hidden: int) -> int:
    """Mamba 2, which has heads; else Mamba 1."""
    kernel = config.figure("mamba_d_conv", "conv_kernel") or _KERNEL
    state = config.figure("mamba_d_state", "ssm_state_size", "state_size") or 16
    heads = mamba_heads(config)
    expand = config.figure("mamba_expand", "expand") or 2
    inner = config.figure("mamba_d_ssm") or expand * hidden
    width = mamba_head_dim(config)
    if heads and isinstance(width, int):
        inner = heads * width
    groups = config.figure("mamba_n_groups", "mamba_ngroups", "n_groups") or 1
    inputs = inner + 2 * groups * state if heads else inner
    return (kernel - 1) * inputs * _MODEL_BYTES + inner * state * _matrix_bytes(config)


def mamba_heads(config: ModelJson) -> int:
    """Of recurrent layers; 0 in Mamba 1, which has none. A model of Mamba 2 alone calls them its
    heads."""
    names = ("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    return config.figure(*names, *(("num_heads",) if config.model_type == MAMBA_2 else ())) or 0


def mamba_head_dim(config: ModelJson) -> int | None:
    width = config.first("mamba_head_dim", "mamba_headdim", "mamba_d_head")
    own = config.figure("head_dim") if config.model_type == MAMBA_2 else None
    return width if isinstance(width, int) else own
