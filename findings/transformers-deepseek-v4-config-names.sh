#!/usr/bin/env bash
# transformers 5.19.0 saves the configuration of a DeepSeek V4 under other names than it is published with: which layers
# compress, and how much, is in `layer_types` and `compress_rates` where the published file has `compress_ratios`; of the first
# layers `mlp_layer_types` stands for `num_hash_layers`. Whoever reads the published names finds none: vLLM 0.32.0 has a class
# of its own for this family, and refuses such a file when it starts: "The `mlp_layer_types` entries must be in ('sparse',
# 'dense') but got ['hash_moe', ...]"; without that list it would look for `compress_ratios`, which is gone. So a model that
# was fine-tuned and saved anew is not served, until the published names are put back.
#
# Output seen (CPython 3.11, transformers 5.19.0):
#     published, and not saved: compress_ratios, num_hash_layers
#     saved in their place: compress_rates, layer_types, mlp_layer_types
#     the first layers: ['sliding_attention', 'compressed_sparse_attention', 'heavily_compressed_attention']
#     ['hash_moe', 'hash_moe', 'moe']
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check transformers==5.19.0 2> log || { cat log; exit 1; }
cat > save.py <<'PYTHON'
import json
from pathlib import Path

from transformers import AutoConfig

published = {"model_type": "deepseek_v4", "architectures": ["DeepseekV4ForCausalLM"], "num_hidden_layers": 3}
published |= {"compress_ratios": [0, 4, 128], "num_hash_layers": 2, "sliding_window": 128, "head_dim": 512}
Path("published").mkdir()
Path("published/config.json").write_text(json.dumps(published))
AutoConfig.from_pretrained("published").save_pretrained("saved")
saved = json.loads(Path("saved/config.json").read_text())
print("published, and not saved:", ", ".join(sorted(set(published) - set(saved))))
names = ("compress_rates", "layer_types", "mlp_layer_types")
print("saved in their place:", ", ".join(name for name in names if name in saved))
print("the first layers:", saved["layer_types"])
print(saved["mlp_layer_types"])
PYTHON
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
env/bin/python save.py 2> errors | tee seen || { cat errors; exit 1; }
diff seen - <<'EXPECTED'
published, and not saved: compress_ratios, num_hash_layers
saved in their place: compress_rates, layer_types, mlp_layer_types
the first layers: ['sliding_attention', 'compressed_sparse_attention', 'heavily_compressed_attention']
['hash_moe', 'hash_moe', 'moe']
EXPECTED
