"""Values that a checkpoint's configuration leaves to its family: the defaults of the
configuration classes in transformers (5.17). Multimodal checkpoints leave out most of their
language model's figures."""

from __future__ import annotations

from typing import Any, Final

_LLAMA: Final = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32000,
}
_GEMMA_3: Final = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "vocab_size": 262_208,
    "tie_word_embeddings": True,
}
_GEMMA_2: Final = {
    "head_dim": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 2,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_MISTRAL: Final = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
    "vocab_size": 32000,
}
_QWEN_2: Final = {"use_sliding_window": False, "max_window_layers": 28}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "llama": _LLAMA,
    "gemma2": _GEMMA_2,
    "gemma3": _GEMMA_3,
    "gemma3_text": _GEMMA_3,
    "gemma3n_text": {"num_kv_shared_layers": 15, "tie_word_embeddings": True},
    "mistral": _MISTRAL,
    "falcon": {"max_position_embeddings": 2048, "multi_query": True},
    "qwen2": _QWEN_2,
    "qwen2_moe": _QWEN_2,
    "qwen3": _QWEN_2,
    "qwen3_moe": _QWEN_2,
    "qwen3_next": {"full_attention_interval": 4},
    "qwen3_5_text": {"full_attention_interval": 4},
    "qwen3_5_moe_text": {"full_attention_interval": 4},
    "cohere2": {"sliding_window_pattern": 4},
    "kimi_linear": {**_LLAMA, "max_position_embeddings": 4096, "vocab_size": 163_840},
    "modernbert": {
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "vocab_size": 50_368,
    },
    "llama4_text": {"attention_chunk_size": 8192},
}
#: Sections of a whole model within another: of Qwen-Omni, the part that answers in words, beside
#: the one that speaks; of ColPali, the model whose words become vectors.
_MODELS: Final = ("thinker_config", "vlm_config")
_SECTIONS: Final = ("text_config", "llm_config", "language_config", "transformer_layer_config")


def completed(data: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with its family's defaults filled in, in the language model's
    section. A `null` stays: it says that there is no such thing."""
    for name in _MODELS:
        model = data.get(name)
        if isinstance(model, dict):
            return completed({**{key: data[key] for key in data if key != name}, **model})
    decoder = _decoder_of(data)
    if decoder:
        return {**data, **decoder}
    data = _flattened(data)
    for name in _SECTIONS:
        section = data.get(name)
        if isinstance(section, dict):
            return {**data, name: _filled(section)}
    return _filled(_with_sublayers(data))


def _with_sublayers(data: dict[str, Any]) -> dict[str, Any]:
    """LongCat-Flash counts blocks of two layers that attend; only transformers before 5 wrote down
    how many layers that makes. Its publishers name no `model_type`."""
    blocks = data.get("num_layers")
    names = data.get("architectures")
    first = names[0] if isinstance(names, list) and names else ""
    if not str(first).startswith("LongcatFlash") or not isinstance(blocks, int):
        return data
    return {"num_hidden_layers": 2 * blocks, **data}


#: Sections for parts of a layer (DBRX), and what their keys are called elsewhere.
_PARTS: Final = {
    "attn_config": {"kv_n_heads": "num_key_value_heads"},
    "ffn_config": {
        "ffn_hidden_size": "intermediate_size",
        "moe_num_experts": "moe_num_experts",
        "moe_top_k": "moe_top_k",
    },
}


def _flattened(data: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the figures of such sections beside its own."""
    found = dict(data)
    for section, names in _PARTS.items():
        part = data.get(section)
        given = part if isinstance(part, dict) else {}
        found |= {name: given[key] for key, name in names.items() if given.get(key) is not None}
    return found


def _filled(section: dict[str, Any]) -> dict[str, Any]:
    family = section.get("model_type")
    return {**_DEFAULTS.get(family, {}), **section} if isinstance(family, str) else section


#: Keys of a decoder that an encoder stands beside, and what they are called elsewhere.
_DECODER: Final = {
    "d_model": "hidden_size",
    "decoder_layers": "num_hidden_layers",
    "decoder_attention_heads": "num_attention_heads",
    "decoder_ffn_dim": "intermediate_size",
    "max_target_positions": "max_position_embeddings",
}


_ENCODER: Final = (
    "model_type",
    "d_model",
    "encoder_ffn_dim",
    "max_source_positions",
    "num_mel_bins",
)


def _decoder_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the decoder of a model that hears with an encoder (Whisper), under the
    names of a decoder alone: some files have these names for the encoder. Else nothing."""
    if "decoder_layers" not in data or "max_source_positions" not in data:
        return {}
    found = {name: data.get(key) for key, name in _DECODER.items()}
    heads = data.get("decoder_attention_heads")
    return found | {
        "num_key_value_heads": heads,
        "encoded_positions": data["max_source_positions"],
        "audio_config": {key: value for key, value in data.items() if key in _ENCODER},
    }


#: Keys of Mistral's own format, and what they are called elsewhere.
_PARAMS: Final = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "sliding_window": "sliding_window",
    "kv_lora_rank": "kv_lora_rank",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "tied_embeddings": "tie_word_embeddings",
}
#: Without any of the figures, vLLM (0.32) takes this.
_PARAMS_CONTEXT: Final = 128_000


def from_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration from Mistral's params.json."""
    inner = params.get("text_config", params)
    found = {name: inner[key] for key, name in _PARAMS.items() if inner.get(key) is not None}
    moe = params.get("moe")
    if isinstance(moe, dict):
        found["num_experts_per_tok"] = moe.get("num_experts_per_tok")
        found["moe_intermediate_size"] = moe.get("expert_hidden_dim")
    context = params.get("max_position_embeddings") or params.get("max_seq_len")
    found["max_position_embeddings"] = context or _PARAMS_CONTEXT
    found["model_type"] = "params"
    found["dtype"] = params.get("dtype", "bfloat16")
    return found
