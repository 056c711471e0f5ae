"""Models of real shapes without their weights: config.json, a tokenizer that has a word for every
number that the model may say, and a safetensors file that is all header."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "deploy" / "demo-model"
#: Configurations as they were published, with tensors that add up to the real size.
PUBLISHED: dict[str, Any] = json.loads(
    (ROOT / "tests" / "orchestrator" / "estimate" / "published_models.json").read_text()
)
_ELEMENT = {"BF16": 2, "F32": 4, "F16": 2, "I32": 4, "F8_E4M3": 1, "U8": 1}
#: Of Qwen2.5: what decides memory.
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}


def make_model(directory: Path, shape: str) -> Path:
    """Write a model of that shape, if it is not there yet."""
    path = directory / (shape if shape in PUBLISHED else f"qwen2-{shape}")
    if path.exists():
        return path
    if shape in PUBLISHED:
        return _write_published(path, **PUBLISHED[shape])
    scratch = directory / f".{path.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    demo = json.loads((DEMO / "config.json").read_text())
    config = demo | SHAPES[shape] | {"max_position_embeddings": 32768}
    (scratch / "config.json").write_text(json.dumps(config, indent=1))
    for name in ("generation_config.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, scratch / name)
    _write_tokenizer(scratch, config["vocab_size"])
    tensors = {name: ("BF16", shape) for name, shape in _tensors(config).items()}
    _write_header(scratch / "model.safetensors", tensors)
    scratch.rename(path)
    return path


def make_adapter(directory: Path, shape: str, rank: int) -> Path:
    """Write a LoRA adapter that changes nothing, for all projections of a Qwen2 shape."""
    path = directory / f"qwen2-{shape}-lora{rank}"
    path.mkdir(parents=True, exist_ok=True)
    config = json.loads((DEMO / "config.json").read_text()) | SHAPES[shape]
    tensors = {}
    for name, (out, inner) in _projections(config).items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{stem}.lora_A.weight"] = ("BF16", [rank, inner])
        tensors[f"{stem}.lora_B.weight"] = ("BF16", [out, rank])
    kinds = sorted({name.split(".")[-2] for name in _projections(config)})
    described = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank}
    described |= {"target_modules": kinds, "bias": "none", "lora_dropout": 0.0}
    (path / "adapter_config.json").write_text(json.dumps(described))
    _write_header(path / "adapter_model.safetensors", tensors)
    return path


def _write_published(
    path: Path,
    files: dict[str, Any],
    tensors: dict[str, Any],
    special_tokens: Mapping[str, int] | None = None,
) -> Path:
    scratch = path.with_name(f".{path.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, content in files.items():
        (scratch / name).write_text(json.dumps(content))
    shutil.copy(DEMO / "tokenizer_config.json", scratch / "tokenizer_config.json")
    vocabulary = files["config.json"].get("vocab_size") or max(
        shape[0] for header in tensors.values() for _, shape in header.values()
    )
    _write_tokenizer(scratch, vocabulary, special_tokens or {})
    for name, header in tensors.items():
        _write_header(scratch / name, header)
    return scratch.rename(path)


def _write_tokenizer(
    path: Path, vocabulary: int, special: Mapping[str, int] = MappingProxyType({})
) -> None:
    """The demo model's, with filler words: random weights say any number, and each needs one.
    A model of images has tokens for their places."""
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    named = {number: token for token, number in special.items()}
    filler = range(len(words), vocabulary)
    words |= {named.get(number, f"⟨{number}⟩"): number for number in filler}
    form = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"] += [
        {"id": number, "content": token, "special": True} | form
        for token, number in special.items()
    ]
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 32768
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def _tensors(config: dict[str, Any]) -> dict[str, list[int]]:
    hidden = config["hidden_size"]
    tensors = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = [config["vocab_size"], hidden]
    return tensors | _projections(config)


def _projections(config: dict[str, Any]) -> dict[str, list[int]]:
    """The matrices of all layers: rows out, columns in."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * hidden // config["num_attention_heads"]
    layer = {
        "self_attn.q_proj.weight": [hidden, hidden],
        "self_attn.k_proj.weight": [keys, hidden],
        "self_attn.v_proj.weight": [keys, hidden],
        "self_attn.o_proj.weight": [hidden, hidden],
        "mlp.gate_proj.weight": [inner, hidden],
        "mlp.up_proj.weight": [inner, hidden],
        "mlp.down_proj.weight": [hidden, inner],
    }
    return {
        f"model.layers.{number}.{name}": shape
        for number in range(config["num_hidden_layers"])
        for name, shape in layer.items()
    }


def _write_header(path: Path, tensors: Mapping[str, Sequence[Any]]) -> None:
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = offset + _ELEMENT[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
