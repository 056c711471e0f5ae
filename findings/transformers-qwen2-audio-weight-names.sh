#!/usr/bin/env bash
# transformers 5.19.0 saves a Qwen2-Audio with names of weights that no published checkpoint has: it puts its text model's
# under `language_model.model.model.`, where Qwen/Qwen2-Audio-7B has `language_model.model.`. Its table of names for this
# family renames `language_model.model` to `model.language_model` when it reads; when it writes, the name's own `model` comes
# on top. vLLM 0.32.0 refuses such a checkpoint: "There is no module or parameter named 'model' in Qwen2Model". So a fine-tuned
# model that was saved anew has to be renamed before it is served (tests/engines/audio_model.py does).
#
# Output seen (CPython 3.11, transformers 5.19.0, torch 2.13.0):
#     language_model.lm_head.weight
#     language_model.model.model.embed_tokens.weight
#     language_model.model.model.norm.weight
# Exits 1 if that changes. It needs torch: some GB, and some minutes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    transformers==5.19.0 torch==2.13.0 2> log || { cat log; exit 1; }
cat > save.py <<'PYTHON'
from safetensors import safe_open
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

text = {"model_type": "qwen2", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
text |= {"num_attention_heads": 1, "num_key_value_heads": 1}
hearing = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 32}
config = Qwen2AudioConfig(text_config=text, audio_config=hearing, audio_token_index=60)
Qwen2AudioForConditionalGeneration(config).save_pretrained("model")
with safe_open("model/model.safetensors", "pt") as file:
    names = sorted(name for name in file.keys() if name.startswith("language_model"))
print("\n".join(name for name in names if ".layers." not in name))
PYTHON
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
env/bin/python save.py 2> errors | tee seen || { cat errors; exit 1; }
diff seen - <<'EXPECTED'
language_model.lm_head.weight
language_model.model.model.embed_tokens.weight
language_model.model.model.norm.weight
EXPECTED
