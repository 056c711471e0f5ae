"""The demo model as a GGUF file, written by hand as llama.cpp's own conversion would write it: that
one needs torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_ALIGNMENT: Final = 32
#: Types of values, and of tensors, by the numbers of the format.
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5
_TENSOR_F32: Final = 0
_NORMAL, _CONTROL = 1, 3
_LAYER: Final = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def write_gguf(model: Path, path: Path) -> Path:
    """Return a Qwen2 checkpoint with BF16 weights in one file, as GGUF with 32 bits for each
    number."""
    tensors = list(_tensors(model / "model.safetensors"))
    values = [_pair(name, kind, value) for name, kind, value in _metadata(model)]
    infos, data = b"", b""
    for name, shape, content in tensors:
        dimensions = b"".join(struct.pack("<Q", length) for length in reversed(shape))
        infos += _text(name) + struct.pack("<I", len(shape)) + dimensions
        infos += struct.pack("<IQ", _TENSOR_F32, len(data))
        data += content + bytes(-len(content) % _ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + infos
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + data)
    return path


def _metadata(model: Path) -> Iterable[tuple[str, int, Any]]:
    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    settings = json.loads((model / "tokenizer_config.json").read_text())
    words = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    merges = [each if isinstance(each, str) else " ".join(each) for each in _merges(tokenizer)]
    yield "general.architecture", _STRING, "qwen2"
    yield "general.name", _STRING, "demo"
    yield "qwen2.block_count", _UINT32, config["num_hidden_layers"]
    yield "qwen2.context_length", _UINT32, config["max_position_embeddings"]
    yield "qwen2.embedding_length", _UINT32, config["hidden_size"]
    yield "qwen2.feed_forward_length", _UINT32, config["intermediate_size"]
    yield "qwen2.attention.head_count", _UINT32, config["num_attention_heads"]
    yield "qwen2.attention.head_count_kv", _UINT32, config["num_key_value_heads"]
    yield "qwen2.attention.layer_norm_rms_epsilon", _FLOAT32, config["rms_norm_eps"]
    yield "qwen2.rope.freq_base", _FLOAT32, config["rope_theta"]
    yield "tokenizer.ggml.model", _STRING, "gpt2"
    yield "tokenizer.ggml.pre", _STRING, "qwen2"
    yield "tokenizer.ggml.tokens", _STRING, [word for word, _ in words]
    kinds = [_CONTROL if number in special else _NORMAL for _, number in words]
    yield "tokenizer.ggml.token_type", _INT32, kinds
    yield "tokenizer.ggml.merges", _STRING, merges
    yield "tokenizer.ggml.eos_token_id", _UINT32, config["eos_token_id"]
    yield "tokenizer.ggml.padding_token_id", _UINT32, config["pad_token_id"]
    yield "tokenizer.ggml.add_bos_token", _BOOL, False
    yield "tokenizer.chat_template", _STRING, settings["chat_template"]


def _merges(tokenizer: dict[str, Any]) -> list[Any]:
    merges: list[Any] = tokenizer["model"]["merges"]
    return merges


def _tensors(path: Path) -> Iterable[tuple[str, list[int], bytes]]:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        half = content[8 + length + begin : 8 + length + end]
        # Bfloat16 is the upper half of a float32.
        whole = bytearray(2 * len(half))
        whole[2::4], whole[3::4] = half[::2], half[1::2]
        yield _name(name), tensor["shape"], bytes(whole)


def _name(name: str) -> str:
    match name.split(".", 3):
        case ["model", "layers", number, part]:
            return f"blk.{number}.{_LAYER[part]}"
        case ["model", "embed_tokens", _]:
            return "token_embd.weight"
        case ["model", "norm", _]:
            return "output_norm.weight"
    return "output.weight"


def _pair(name: str, kind: int, value: Any) -> bytes:
    if not isinstance(value, list):
        return _text(name) + struct.pack("<I", kind) + _value(kind, value)
    items = b"".join(_value(kind, item) for item in value)
    return _text(name) + struct.pack("<IIQ", _ARRAY, kind, len(value)) + items


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    code = {_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind]
    return struct.pack(code, value)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
