# llama.cpp's server (xllamacpp 2026.10.11549) writes chats by a Jinja of its own. Guess: a chat template gives the prompt that
# transformers 5.24.0 gives, or an error. It misses without an error or a warning, so that a model behind it reads another
# prompt than behind vLLM or SGLang, which render with Python:
#
# 1. A map as text is nothing: a template with `{{ tool.function.parameters }}` does not tell the model its tools' arguments.
#    In a list as text the items stand together without a sign between them. After `| string` both are as Python writes them.
# 2. `None` as text is nothing, in transformers the word.
# 3. `| tojson` writes a whole number of the type float without its fraction, in tools and in calls: `1` for `1.0`.
# 4. The filter `format` gives its pattern back, unfilled.
# 5. Lengths and slices of text count bytes, and a slice may cut a character in two; `| upper` leaves all but ASCII.
#
# Output seen (CPython 3.11, x86-64), transformers' before llama.cpp's:
#     a map: "{'type': ['string', 'null'], 'minimum': 1.0}" ''
#     a list: "['string', 'null']" 'stringnull'
#     both, as a string: "{'type': ['string', 'null'], 'minimum': 1.0}['string', 'null']" the same
#     none: 'None' ''
#     tojson: '{"type": ["string", "null"], "minimum": 1.0}' '{"type": ["string", "null"], "minimum": 1}'
#     format: 'find: a tool' '%s: %s'
#     length: '2' '3'
#     slice: 'né' 'n\ufffd'
#     upper: 'NÉ' 'Né'
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    xllamacpp==2026.10.11549 transformers==5.24.0 jinja2==3.1.6 gguf==0.19.0 numpy==2.4.6 2> log || { cat log; exit 1; }
cat > render.py <<'PYTHON'
"""Has both libraries write the same chat by small templates, and prints what they wrote."""
import json, socket, urllib.request

import gguf, numpy, xllamacpp
from transformers.utils.chat_template_utils import render_jinja_template

ARGUMENT = {"type": ["string", "null"], "minimum": 1.0}
TOOL = {"type": "function", "function": {"name": "find", "description": "a tool", "parameters": ARGUMENT}}
CHAT = [{"role": "user", "content": "né"}]
IN_TOOL = "{%% for tool in tools %%}{{ %s }}{%% endfor %%}"
TEMPLATES = {
    "a map": IN_TOOL % "tool.function.parameters",
    "a list": IN_TOOL % "tool.function.parameters.type",
    "both, as a string": IN_TOOL % "tool.function.parameters|string ~ tool.function.parameters.type|string",
    "none": "{{ none }}",
    "tojson": IN_TOOL % "tool.function.parameters|tojson",
    "format": IN_TOOL % "'%s: %s'|format(tool.function.name, tool.function.description)",
    "length": "{{ messages[0].content|length }}",
    "slice": "{{ messages[0].content[:2] }}",
    "upper": "{{ messages[0].content|upper }}",
}
SEEN = {
    "a map": "",
    "a list": "stringnull",
    "none": "",
    "tojson": '{"type": ["string", "null"], "minimum": 1}',
    "format": "%s: %s",
    "length": "3",
    "slice": "n\ufffd",
    "upper": "Né",
}


def write_model():
    """A Qwen2 of one layer and of random weights: only its template matters."""
    tokens, width, inner = [*(chr(33 + place) for place in range(94)), "<end>"], 64, 128
    out = gguf.GGUFWriter("tiny.gguf", "qwen2")
    out.add_block_count(1)
    out.add_context_length(512)
    out.add_embedding_length(width)
    out.add_feed_forward_length(inner)
    out.add_head_count(2)
    out.add_head_count_kv(2)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(tokens)
    out.add_token_types([1] * 94 + [3])
    out.add_token_merges(["! !"])
    out.add_eos_token_id(94)
    shapes = {f"blk.0.attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.attn_{part}.bias": (width,) for part in ("q", "k", "v")}
    shapes |= {f"blk.0.ffn_{part}.weight": (inner, width) for part in ("gate", "up")}
    shapes |= {"blk.0.ffn_down.weight": (width, inner), "token_embd.weight": (len(tokens), width)}
    shapes |= {f"{norm}.weight": (width,) for norm in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")}
    for name, shape in shapes.items():
        out.add_tensor(name, numpy.full(shape, 0.01, numpy.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def by_transformers(template):
    said, _ = render_jinja_template([CHAT], tools=[TOOL], chat_template=template)
    return said[0]


def by_llama_cpp(template):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    wanted = xllamacpp.CommonParams()
    wanted.model.path, wanted.chat_template = "tiny.gguf", template
    wanted.hostnames, wanted.port = ["127.0.0.1"], port
    wanted.n_parallel, wanted.n_ctx, wanted.ui, wanted.warmup = 1, 512, False, False
    server = xllamacpp.Server(wanted)
    asked = json.dumps({"messages": CHAT, "tools": [TOOL]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/apply-template", asked, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = json.loads(answer.read())["prompt"]
    del server
    return said


write_model()
same = True
for name, template in TEMPLATES.items():
    here, there = by_transformers(template), by_llama_cpp(template)
    print(f"{name}:", repr(here), "the same" if here == there else repr(there))
    same = same and there == SEEN.get(name, here) and (there != here) == (name in SEEN)
raise SystemExit(not same)
PYTHON
env/bin/python render.py 2>/dev/null
