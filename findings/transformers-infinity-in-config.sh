#!/usr/bin/env bash
# transformers 5.19.0 writes an infinite number into config.json as an object, {"__float__": "Infinity"}. transformers
# 4.57.6 wrote the bare word Infinity, which JSON does not have, and which Python's json reads. So a configuration of the
# Mamba 2 family (also Bamba, Falcon H1, Granite MoE hybrid, Nemotron H) that is saved anew by 5 has a list of a number and an
# object in `time_step_limit`. 4.57.6 reads it without an error or a warning, and its `time_step_limit` holds
# a dict where the model's code expects a number. A reader of config.json has to know three forms of the same field:
# the object, the word, and what publishers wrote by hand ("inf").
#
# Output seen (CPython 3.11):
#     5.19.0 writes [0.0, {"__float__": "Infinity"}]
#     4.57.6 writes [0.0, Infinity]
#     5.19.0 reads its own: [0.0, inf]
#     4.57.6 reads that of 5.19.0: [0.0, {'__float__': 'Infinity'}]
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for version in 5.19.0 4.57.6; do
    python3 -m venv "$version"
    "$version/bin/pip" install --quiet --disable-pip-version-check "transformers==$version"
done
cat > config.py <<'PYTHON'
import json
import sys
from pathlib import Path

import transformers
from transformers import Mamba2Config

verb, place = sys.argv[1:]
if verb == "write":
    Mamba2Config(time_step_limit=(0.0, float("inf"))).save_pretrained(place)
    found = json.loads(Path(place, "config.json").read_text())["time_step_limit"]
    print(f"{transformers.__version__} writes {json.dumps(found)}")
else:
    print(Mamba2Config.from_pretrained(place).time_step_limit)
PYTHON
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
{
    5.19.0/bin/python config.py write five
    4.57.6/bin/python config.py write four
    echo "5.19.0 reads its own: $(5.19.0/bin/python config.py read five)"
    echo "4.57.6 reads that of 5.19.0: $(4.57.6/bin/python config.py read five)"
} 2> errors | tee seen || { cat errors; exit 1; }
diff seen - <<'EXPECTED'
5.19.0 writes [0.0, {"__float__": "Infinity"}]
4.57.6 writes [0.0, Infinity]
5.19.0 reads its own: [0.0, inf]
4.57.6 reads that of 5.19.0: [0.0, {'__float__': 'Infinity'}]
EXPECTED
