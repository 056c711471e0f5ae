"""Models that are all header and no weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

MakeModel = Callable[..., Path]

QWEN2_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 131072,
    "max_window_layers": 28,
    "torch_dtype": "bfloat16",
}
QWEN2_HALF_B = QWEN2_7B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def decoder_tensors(config: dict[str, Any]) -> dict[str, list[int]]:
    """Return the tensors of a Qwen2-shaped decoder, by name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries = config["num_attention_heads"] * head_dim
    keys = config["num_key_value_heads"] * head_dim
    tensors = {
        "model.embed_tokens.weight": [config["vocab_size"], hidden],
        "model.norm.weight": [hidden],
    }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "self_attn.q_proj.weight": [queries, hidden],
            "self_attn.q_proj.bias": [queries],
            "self_attn.k_proj.weight": [keys, hidden],
            "self_attn.k_proj.bias": [keys],
            "self_attn.v_proj.weight": [keys, hidden],
            "self_attn.v_proj.bias": [keys],
            "self_attn.o_proj.weight": [hidden, queries],
            "mlp.gate_proj.weight": [inner, hidden],
            "mlp.up_proj.weight": [inner, hidden],
            "mlp.down_proj.weight": [hidden, inner],
            "input_layernorm.weight": [hidden],
            "post_attention_layernorm.weight": [hidden],
        }.items():
            tensors[f"model.layers.{layer}.{name}"] = shape
    return tensors


def write_safetensors(path: Path, tensors: dict[str, list[int]], dtype: str) -> None:
    """A file of the right size that takes no room on disk."""
    element = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "F8_E4M3": 1}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = element
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
