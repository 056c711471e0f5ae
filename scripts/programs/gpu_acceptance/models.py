"""Models of real shapes without their weights: config.json, a tokenizer that has a word for every
number that the model may say, and a safetensors file that is all header."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "deploy" / "demo-model"
#: Configurations as they were published, with tensors that add up to the real size.
PUBLISHED: dict[str, Any] = json.loads(
    (ROOT / "tests" / "orchestrator" / "estimate" / "published_models.json").read_text()
)
_ELEMENT = {"BF16": 2, "F8_E4M3": 1, "U8": 1}
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


def _write_published(path: Path, files: dict[str, Any], tensors: dict[str, Any]) -> Path:
    scratch = path.with_name(f".{path.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, content in files.items():
        (scratch / name).write_text(json.dumps(content))
    shutil.copy(DEMO / "tokenizer_config.json", scratch / "tokenizer_config.json")
    vocabulary = files["config.json"].get("vocab_size") or max(
        shape[0] for header in tensors.values() for _, shape in header.values()
    )
    _write_tokenizer(scratch, vocabulary)
    for name, header in tensors.items():
        _write_header(scratch / name, header)
    return scratch.rename(path)


def _write_tokenizer(path: Path, vocabulary: int) -> None:
    """The demo model's, with filler words: random weights say any number, and each needs one."""
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words |= {f"⟨{number}⟩": number for number in range(len(words), vocabulary)}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 32768
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def _tensors(config: dict[str, Any]) -> dict[str, list[int]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * hidden // config["num_attention_heads"]
    tensors = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = [config["vocab_size"], hidden]
    layer = {
        "self_attn.q_proj.weight": [hidden, hidden],
        "self_attn.k_proj.weight": [keys, hidden],
        "self_attn.v_proj.weight": [keys, hidden],
        "self_attn.o_proj.weight": [hidden, hidden],
        "mlp.gate_proj.weight": [inner, hidden],
        "mlp.up_proj.weight": [inner, hidden],
        "mlp.down_proj.weight": [hidden, inner],
    }
    for number in range(config["num_hidden_layers"]):
        tensors |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    return tensors


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
