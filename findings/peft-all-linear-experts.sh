#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.24.0: a LoRA with `target_modules="all-linear"` on a mixture of experts. Guesses: it takes the
# linear modules, which in transformers 5 experts are no longer (each kind is one parameter of three dimensions), and all of it
# has the rank `r`. Both miss: experts and router are taken, too, by `target_parameters` that nobody named, and the experts'
# gate and up projections get twice the rank, which only `rank_pattern` says. The same parameters named in `target_parameters`
# get `r`. So a server whose places for adapters are as wide as `r` is too narrow for it. The names of the weights do not
# say what they are: `experts.base_layer` is gate and up, `experts` down.
#
# Output seen (CPython 3.11, torch 2.13.0), of four experts, r = 8; the rows of lora_A are experts x rank:
#     all-linear: r 8, patterns [16], parameters down_proj gate.weight gate_up_proj
#     all-linear: gate and up 64 rows, down 32, router 8
#     by name: r 8, patterns [], parameters mlp.experts.down_proj mlp.experts.gate_up_proj
#     by name: gate and up 32 rows, down 32, router none
# Exits 1 if that changes. It needs torch: some GB, and some minutes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    peft==0.21.2 transformers==5.24.0 torch==2.13.0 2> log || { cat log; exit 1; }
cat > save.py <<'PYTHON'
"""Saves two adapters of a model with four experts, and tells what is in their files."""
import json

from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "head_dim": 16}
COUNTS = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 4}
MLP = "base_model.model.model.layers.0.mlp."
ASKED = {
    "all-linear": {"target_modules": "all-linear"},
    "by name": {
        "target_modules": ["q_proj"],
        "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    },
}
for name, asked in ASKED.items():
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=64, num_experts_per_tok=2, **WIDTHS, **COUNTS))
    get_peft_model(model, LoraConfig(r=8, **asked)).save_pretrained(name)
    with open(f"{name}/adapter_config.json") as file:
        said = json.load(file)
    patterns = list(said["rank_pattern"].values())
    print(f"{name}: r {said['r']}, patterns {patterns}, parameters", *sorted(said["target_parameters"]))
    with safe_open(f"{name}/adapter_model.safetensors", "pt") as file:
        rows = {key: file.get_slice(key).get_shape()[0] for key in file.keys()}
    both, down, router = (
        rows.get(f"{MLP}{part}.lora_A.weight", "none") for part in ("experts.base_layer", "experts", "gate")
    )
    print(f"{name}: gate and up {both} rows, down {down}, router {router}")
PYTHON
env/bin/python save.py 2> log | tee seen || { cat log; exit 1; }
diff seen - <<'EXPECTED'
all-linear: r 8, patterns [16], parameters down_proj gate.weight gate_up_proj
all-linear: gate and up 64 rows, down 32, router 8
by name: r 8, patterns [], parameters mlp.experts.down_proj mlp.experts.gate_up_proj
by name: gate and up 32 rows, down 32, router none
EXPECTED
