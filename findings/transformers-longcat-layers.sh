#!/usr/bin/env bash
# transformers 5.24.0 and 4.57.6 count the layers of a LongCat-Flash in two ways, and each reads the other's config.json
# wrong, without an error or a warning, unless the model has 28 blocks as the published one. A block attends twice; `num_layers`
# counts blocks, `num_hidden_layers` what attends. 4.57.6 keeps two numbers, the second 56 unless it is said. 5.24.0 derives the
# second, does not write it, and where a file has it, takes the first from it. Guess: `num_layers` comes back as it was saved.
# So a model of 4 blocks that 4.57.6 saved has 28 in 5.24.0, and one that 5.24.0 saved has caches for 56 layers in
# 4.57.6. Whoever sizes a KV cache by `num_hidden_layers` has to work it out from `num_layers`.
#
# Output seen (CPython 3.11), blocks and layers that attend of a model of 4 blocks:
#     saved by 5.24.0: 4 and 8 there, 4 and 56 in 4.57.6
#     saved by 4.57.6: 4 and 56 there, 28 and 56 in 5.24.0
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for version in 5.24.0 4.57.6; do
    python3 -m venv "$version"
    "$version/bin/pip" install --quiet --disable-pip-version-check "transformers==$version" 2> log || { cat log; exit 1; }
done
cat > layers.py <<'PYTHON'
"""Saves a model of four blocks, or reads one; says its blocks and its layers."""
import sys

from transformers import LongcatFlashConfig

action, place = sys.argv[1:]
if action == "save":
    config = LongcatFlashConfig(num_layers=4)
    config.save_pretrained(place)
else:
    config = LongcatFlashConfig.from_pretrained(place)
print(config.num_layers, "and", config.num_hidden_layers)
PYTHON
in_version() { "$1/bin/python" layers.py "$2" "$3" 2> log || { cat log >&2; exit 1; }; }
{
    echo "saved by 5.24.0: $(in_version 5.24.0 save new) there, $(in_version 4.57.6 read new) in 4.57.6"
    echo "saved by 4.57.6: $(in_version 4.57.6 save old) there, $(in_version 5.24.0 read old) in 5.24.0"
} | tee seen
diff seen - <<'EXPECTED'
saved by 5.24.0: 4 and 8 there, 4 and 56 in 4.57.6
saved by 4.57.6: 4 and 56 there, 28 and 56 in 5.24.0
EXPECTED
