#!/usr/bin/env bash
# outlines-core 0.2.14 makes a regular expression of a JSON schema (`build_regex_from_schema`), for constrained
# decoding; vLLM falls back on it. Guess: all that matches is JSON that keeps to the schema, as far as a regular
# expression can say it, and what it cannot say is refused. It misses three times, without an error:
#
# 1. `allOf` puts the texts of its schemas one after the other. With two schemas nothing that matches is JSON, and
#    nothing that the schema allows matches.
# 2. The name of a property is written as it is: with a quotation mark in it, what matches is no JSON.
# 3. `format: date-time` takes no offset but `Z`, and a time without any, which RFC 3339 does not allow. A number's
#    exponent needs a sign: `1e+5` matches and `1e5` does not.
#
# Output seen (CPython 3.11, x86-64):
#     allOf: "yes" False, "x""yes" True
#     name: {"a\"b": 1} False, {"a"b": 1} True
#     date-time: "2024-01-01T00:00:00+02:00" False, "2024-01-01T00:00:00" True
#     number: 1e5 False, 1e+5 True
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check outlines-core==0.2.14 2> log || { cat log; exit 1; }
cat > try.py <<'PYTHON'
import json
import re

from outlines_core.json_schema import build_regex_from_schema

CASES = {
    "allOf": ({"allOf": [{"type": "string"}, {"enum": ["yes"]}]}, '"yes"', '"x""yes"'),
    "name": (
        {"type": "object", "properties": {'a"b': {"type": "integer"}}, "required": ['a"b']},
        '{"a\\"b": 1}',
        '{"a"b": 1}',
    ),
    "date-time": (
        {"type": "string", "format": "date-time"},
        '"2024-01-01T00:00:00+02:00"',
        '"2024-01-01T00:00:00"',
    ),
    "number": ({"type": "number"}, "1e5", "1e+5"),
}
for name, (schema, *texts) in CASES.items():
    pattern = build_regex_from_schema(json.dumps(schema))
    print(f"{name}:", ", ".join(f"{each} {bool(re.fullmatch(pattern, each))}" for each in texts))
PYTHON
env/bin/python try.py | tee seen
diff seen - <<'SEEN'
allOf: "yes" False, "x""yes" True
name: {"a\"b": 1} False, {"a"b": 1} True
date-time: "2024-01-01T00:00:00+02:00" False, "2024-01-01T00:00:00" True
number: 1e5 False, 1e+5 True
SEEN
