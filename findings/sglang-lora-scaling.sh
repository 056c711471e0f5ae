# SGLang 0.5.23 reads `r`, `lora_alpha`, `target_modules` and `use_dora` of a LoRA adapter's adapter_config.json. Guess: it computes
# an adapter as PEFT does, or refuses it, as it refuses DoRA, and as vLLM 0.32 does with each setting. It misses: every adapter has
# the factor `lora_alpha / r`, without an error or a warning. So one that was trained with `use_rslora` (`lora_alpha / sqrt(r)`, made
# for large ranks) has an eighth of its strength at r = 64, and one with `alpha_pattern` or `rank_pattern` a wrong one in the
# modules that these name. No other module of the package that serves text has these words.
#
# The modules that the class imports beside its own are replaced, so that no torch is needed. Output seen (CPython 3.11, x86-64),
# the factor for an adapter of r 64 and lora_alpha 64, and what PEFT 0.21 computes it with (`LoraLayer.update_layer`):
#     plain: 1.0 (PEFT 1.0)
#     use_rslora: 1.0 (PEFT 8.0)
#     alpha_pattern, 128 for q_proj: 1.0 (PEFT 2.0 there)
#     rank_pattern, 16 for q_proj: 1.0 (PEFT 4.0 there)
#     files of srt that name one of them: none
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.11 sglang==0.5.23 2> log || { cat log; exit 1; }
cat > scale.py <<'PYTHON'
"""Asks the class that serves an adapter for its factor."""
import glob
import importlib.util
import json
import pathlib
import sys
import types
import zipfile
from unittest.mock import MagicMock

sources = zipfile.ZipFile(glob.glob("sglang-*.whl")[0])
sources.extractall(".", [name for name in sources.namelist() if name.startswith("sglang/srt/lora/")])


class Module:
    """For torch.nn.Module: the class asked keeps its figures as attributes."""


replaced = "huggingface_hub torch sglang.srt.configs.load_config sglang.srt.layers.utils sglang.srt.lora.backend.base_backend"
replaced += " sglang.srt.model_loader.loader sglang.srt.utils.hf_transformers_utils"
sys.modules |= {name: MagicMock() for name in replaced.split()}
sys.modules["torch"].nn.Module = Module
sys.modules |= {name: types.ModuleType(name) for name in ("sglang", "sglang.srt", "sglang.srt.lora")}


def read(name):
    found = importlib.util.spec_from_file_location(f"sglang.srt.lora.{name}", f"sglang/srt/lora/{name}.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


LoRAConfig = read("lora_config").LoRAConfig
LoRAAdapter = read("lora").LoRAAdapter


def scaling(**settings):
    adapter = pathlib.Path("adapter")
    adapter.mkdir(exist_ok=True)
    written = {"peft_type": "LORA", "r": 64, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"], **settings}
    (adapter / "adapter_config.json").write_text(json.dumps(written))
    model = types.SimpleNamespace(num_hidden_layers=1)
    return LoRAAdapter("a", LoRAConfig(str(adapter)), model, MagicMock(), MagicMock()).scaling


words = (b"rslora", b"alpha_pattern", b"rank_pattern")
named = [
    name for name in sources.namelist()
    if name.startswith("sglang/srt/") and name.endswith(".py") and any(word in sources.read(name) for word in words)
]
factors = [
    scaling(use_rslora=False),
    scaling(use_rslora=True),
    scaling(alpha_pattern={"q_proj": 128}),
    scaling(rank_pattern={"q_proj": 16}),
]
print("plain:", factors[0], "(PEFT 1.0)")
print("use_rslora:", factors[1], "(PEFT 8.0)")
print("alpha_pattern, 128 for q_proj:", factors[2], "(PEFT 2.0 there)")
print("rank_pattern, 16 for q_proj:", factors[3], "(PEFT 4.0 there)")
print("files of srt that name one of them:", *named or ["none"])
raise SystemExit(factors != [1.0] * 4 or named != [])
PYTHON
python3 scale.py
