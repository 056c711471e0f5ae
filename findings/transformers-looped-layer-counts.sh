#!/usr/bin/env bash
# transformers 5.24.0: `num_hidden_layers` of models whose layers run several times. Guess: it is the number of decoder layers, the
# same in an object and in the config.json that it writes, and a cache has as many entries. It misses in three ways:
#
# 1. Dory: the file has twice the number of the object, as each layer is two blocks there, with a `layer_types` of twice the
#    length. The cache of a loop is counted nowhere: there are `n_input_layers` + `n_recurrent_layers` x `n_recurrent_loops` + ...
# 2. HRM-Text: the number that is given becomes the number of cache entries, the given one is `num_layers_per_stack`, and the model
#    has twice as many layers with weights. A file of the older form, without `num_layers_per_stack`, has the given number.
# 3. So a file alone does not tell which of the three its number is; an estimate of a KV cache by it is wrong by 1.6 or 8.
#
# Output seen (CPython 3.11), of 36 and of 16 layers as they are given:
#     dory: object 36, file 72, with 36 of the type mlp; entries of a cache 56
#     hrm_text: object 128, file 128 and 16; of a file that says 16 alone: 128
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check transformers==5.24.0 2> log || { cat log; exit 1; }
cat > count.py <<'PYTHON'
import json
import pathlib

from transformers import DoryConfig, HrmTextConfig


def saved(config):
    config.save_pretrained("saved")
    return json.loads(pathlib.Path("saved/config.json").read_text())


dory = DoryConfig(num_hidden_layers=36)
written = saved(dory)
mlps = written["layer_types"].count("mlp")
entries = dory.n_input_layers + dory.n_recurrent_layers * dory.n_recurrent_loops + dory.n_output_layers
print(f"dory: object {dory.num_hidden_layers}, file {written['num_hidden_layers']},", end=" ")
print(f"with {mlps} of the type mlp; entries of a cache {entries}")

hrm = HrmTextConfig(num_hidden_layers=16)
written = saved(hrm)
print(f"hrm_text: object {hrm.num_hidden_layers}, file {written['num_hidden_layers']}", end=" ")
print(f"and {written.pop('num_layers_per_stack')};", end=" ")
pathlib.Path("saved/config.json").write_text(json.dumps(written | {"num_hidden_layers": 16}))
print("of a file that says 16 alone:", HrmTextConfig.from_pretrained("saved").num_hidden_layers)
PYTHON
env/bin/python count.py 2> log | tee seen || { cat log; exit 1; }
diff seen - <<'EXPECTED'
dory: object 36, file 72, with 36 of the type mlp; entries of a cache 56
hrm_text: object 128, file 128 and 16; of a file that says 16 alone: 128
EXPECTED
