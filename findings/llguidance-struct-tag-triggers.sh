#!/usr/bin/env bash
# llguidance 1.9.1 makes a grammar of structural tags (`StructTag.to_grammar`): free text, in which a trigger begins a
# part that is constrained; vLLM does so with its backend `guidance`. Guess: a trigger is text, whatever its
# characters, as `begin` and `end` are, and as it is to xgrammar. It misses: one that stands in angle brackets
# alone, such as `<tag>`, the usual kind, is written as a special token. If the tokenizer has none of this name, the
# grammar is refused only when a tokenizer is given; vLLM 0.32 then answers each such request with nothing, and
# status 200.
#
# Output seen (CPython 3.11, x86-64), for each trigger whether the grammar can be read and takes a tagged text:
#     <tag>: False
#     <tag: True
#     [tag]: True
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check llguidance==1.9.1 2> log || { cat log; exit 1; }
cat > try.py <<'PYTHON'
from llguidance import LLMatcher, LLTokenizer, StructTag, TokenizerWrapper

END = 256


class Bytes:
    eos_token_id, bos_token_id, special_token_ids = END, None, [END]
    tokens = [*(bytes([each]) for each in range(END)), b"</s>"]

    def __call__(self, text):
        return list(text)


tokenizer = LLTokenizer(TokenizerWrapper(Bytes()))
for trigger in ("<tag>", "<tag", "[tag]"):
    schema = LLMatcher.grammar_from_json_schema('{"enum": [1]}')
    tag = StructTag(trigger=trigger, begin=trigger, grammar=schema, end="</end>")
    matcher = LLMatcher(tokenizer, StructTag.to_grammar([tag]), log_level=0)
    text = f"so {trigger}1</end>".encode()
    takes = not matcher.is_error() and matcher.try_consume_tokens(list(text)) == len(text)
    print(f"{trigger}: {takes}")
PYTHON
env/bin/python try.py | tee seen
diff seen - <<'SEEN'
<tag>: False
<tag: True
[tag]: True
SEEN
