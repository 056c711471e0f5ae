"""Models and adapters on the CPU, in float32: exact, so that answers can be compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def load_checkpoint(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def with_adapter(model: Any, path: Path) -> Any:
    """Return a copy of the model with a LoRA adapter (Hugging Face format) merged in."""
    config = json.loads((path / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(path / "adapter_model.safetensors")
    merged = copy.deepcopy(model)
    for name, down in tensors.items():
        if not name.endswith("lora_A.weight"):
            continue
        up = tensors[name.replace("lora_A", "lora_B")]
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        with torch.no_grad():
            merged.get_submodule(layer).weight += scale * (up.float() @ down.float())
    return merged
