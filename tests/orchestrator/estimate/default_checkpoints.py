"""Writes a checkpoint for each architecture of this environment's vLLM whose configuration has a
class, here or in transformers: config.json with the defaults of that class, and where transformers
has the model the header of its weights. Imports nothing of ew:

    ENV/bin/python default_checkpoints.py DIRECTORY < TABLES

`model_types` of the tables says whose configuration an architecture has that transformers does
not list, `added` what real files say beside the defaults. Its last line is a JSON object:
`written`, the names of the checkpoints, `unknown`, those of architectures without such a class, and
`release`, that of vLLM.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

ELEMENT_BYTES = 2


def main() -> None:
    import vllm

    home, tables = Path(sys.argv[1]), json.load(sys.stdin)
    known = architectures()
    families = families_of(known) | tables["model_types"]
    # An architecture that vLLM runs by the class of another is configured like that one.
    by_class = {known[name]: family for name, family in families.items() if name in known}
    written = []
    for name, runs in known.items():
        family = families.get(name) or by_class.get(runs)
        if family is not None:
            (home / name).mkdir()
            write_config(home / name, name, family, tables["added"].get(name, {}))
            write_header(home / name, name)
            written.append(name)
    unknown = sorted({*known} - {*written})
    said = {"written": written, "unknown": unknown, "release": vllm.__version__}
    sys.stdout.write(f"\n{json.dumps(said)}\n")


def architectures() -> dict[str, Any]:
    """Return those that vLLM serves by classes of its own, and these: no heads that guess."""
    from vllm.model_executor.models import registry

    guess = registry._SPECULATIVE_DECODING_MODELS
    return {
        name: runs
        for name, runs in registry._VLLM_MODELS.items()
        if name not in guess and not name.startswith("Transformers")
    }


def families_of(known: dict[str, Any]) -> dict[str, str]:
    """Return the `model_type` of each architecture that transformers lists."""
    from transformers.models.auto import modeling_auto

    found: dict[str, str] = {}
    for name in sorted(vars(modeling_auto)):
        if not name.endswith("_MAPPING_NAMES"):
            continue
        for family, names in getattr(modeling_auto, name).items():
            for each in [names] if isinstance(names, str) else names:
                if each in known:
                    found.setdefault(each, family)
    return found


def write_config(directory: Path, name: str, family: str, added: dict[str, Any]) -> None:
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    config = None
    for classes in (_CONFIG_REGISTRY, CONFIG_MAPPING):
        if config is None and family in classes:
            # Some classes of vLLM's refuse to be made of nothing; those of transformers do not.
            with contextlib.suppress(ValueError):
                config = classes[family]()
    if config is None:
        raise ValueError(f"{name}: no class of {family} can be made of its defaults")
    config.architectures, config.dtype = [name], "bfloat16"
    content = json.loads(config.to_json_string()) | {"model_type": family}
    (directory / "config.json").write_text(json.dumps(merged(content, added)))


def merged(content: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    found = dict(content)
    for key, value in added.items():
        inner = content.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        found[key] = merged(inner, value) if both else value
    return found


def write_header(directory: Path, name: str) -> None:
    """Of a model that transformers cannot make of its defaults, the header says nothing."""
    import torch
    import transformers

    tensors, offset = {"w": torch.empty(16, 16, device="meta")}, 0
    try:
        config = transformers.AutoConfig.from_pretrained(directory)
        with torch.device("meta"):
            model = getattr(transformers, name)._from_config(config)
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        tensors = {key: each for key, each in model.state_dict().items() if key not in tied}
    except Exception as error:
        sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
    header = {}
    for key, tensor in tensors.items():
        end = offset + tensor.numel() * ELEMENT_BYTES
        shape = list(tensor.shape)
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


if __name__ == "__main__":
    main()
