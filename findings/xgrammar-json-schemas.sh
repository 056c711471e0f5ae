#!/usr/bin/env bash
# xgrammar 0.2.9 compiles JSON schemas for constrained decoding, in vLLM, SGLang and TensorRT-LLM. Guesses: it keeps
# to a schema, or refuses one that it cannot keep to, as llguidance 1.9.1 does. Both miss for parts of JSON
# Schema that tools' and applications' schemas have every day; each is compiled without an error, and but for
# `allOf` without a warning.
#
# 1. Of `properties` beside `anyOf` (or `$ref`, or one `allOf`) it forgets the properties: what the schema forbids is
#    forced, and what it demands cannot be written. `{"anyOf": [{"required": ["a"]}, ...]}` beside them, the
#    usual way to say "one of these two", allows any JSON at all. So does an `allOf` of two schemas.
# 2. A required property without a schema of its own is forgotten, and cannot be written.
# 3. A pattern with a quotation mark is taken as JSON text and not as the string's value: the only text that
#    it allows is no JSON.
#
# Output seen (CPython 3.11, x86-64), for each schema a text that breaks it and one that keeps to it:
#     properties beside anyOf: xgrammar takes the broken, llguidance takes the right
#     required beside anyOf: xgrammar takes both, llguidance takes the right
#     bound beside $ref: xgrammar takes both, llguidance takes the right
#     two of allOf: xgrammar takes both, llguidance takes the right
#     required without a schema: xgrammar takes the broken, llguidance takes the right
#     pattern with a quotation mark: xgrammar takes the broken, llguidance takes the right
# Exits 1 if that changes. torch comes along with xgrammar: some GB, and some minutes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    xgrammar==0.2.9 llguidance==1.9.1 2> log || { cat log; exit 1; }
cat > try.py <<'PYTHON'
import json

import xgrammar
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

END = 256
WORDS = [bytes([each]) for each in range(END)] + [b"</s>"]
INTEGER = {"type": "integer"}
ONE_OF_TWO = [{"required": ["a"]}, {"required": ["b"]}]
NEEDS_C = {"properties": {"c": INTEGER}, "required": ["c"]}
THING = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}}
CASES = {
    "properties beside anyOf": ({**THING, "required": ["a"], "anyOf": [NEEDS_C]}, '{"c": 1}', '{"a": 1, "c": 1}'),
    "required beside anyOf": ({**THING, "anyOf": ONE_OF_TWO}, '"no object"', '{"a": 1}'),
    "bound beside $ref": ({"$defs": {"I": INTEGER}, "$ref": "#/$defs/I", "minimum": 3}, "1", "5"),
    "two of allOf": ({"allOf": [{"type": "string"}, {"enum": ["yes", "no"]}]}, "17", '"yes"'),
    "required without a schema": (
        {"type": "object", "properties": {"a": INTEGER}, "required": ["b"]},
        '{"a": 1}',
        '{"a": 1, "b": 1}',
    ),
    "pattern with a quotation mark": ({"type": "string", "pattern": '^a"b$'}, '"a"b"', '"a\\"b"'),
}


class Bytes:
    eos_token_id, bos_token_id, tokens, special_token_ids = END, None, WORDS, [END]

    def __call__(self, text):
        return list(text)


tokenizer = LLTokenizer(TokenizerWrapper(Bytes()))
compiler = xgrammar.GrammarCompiler(
    xgrammar.TokenizerInfo(WORDS, xgrammar.VocabType.RAW, stop_token_ids=[END])
)


def by_xgrammar(schema, text):
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema)))
    return matcher.accept_string(text) and matcher.accept_token(END)


def by_llguidance(schema, text):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text) and matcher.is_accepting()


def verdict(takes, schema, broken, right):
    found = takes(schema, broken), takes(schema, right)
    return {(True, True): "both", (True, False): "the broken", (False, True): "the right"}.get(found, "none")


for name, case in CASES.items():
    print(f"{name}: xgrammar takes {verdict(by_xgrammar, *case)}, llguidance takes {verdict(by_llguidance, *case)}")
PYTHON
env/bin/python try.py 2> log | tee seen || { cat log; exit 1; }
diff seen - <<'SEEN'
properties beside anyOf: xgrammar takes the broken, llguidance takes the right
required beside anyOf: xgrammar takes both, llguidance takes the right
bound beside $ref: xgrammar takes both, llguidance takes the right
two of allOf: xgrammar takes both, llguidance takes the right
required without a schema: xgrammar takes the broken, llguidance takes the right
pattern with a quotation mark: xgrammar takes the broken, llguidance takes the right
SEEN
