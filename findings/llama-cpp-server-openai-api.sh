#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549): three things that a client of the OpenAI API meets.
# A guess from that API, and from other servers of it, misses each time; none is an error or a warning.
#
# 1. `POST /v1/completions` ignores `response_format`: the answer is free text. The same schema as
#    `json_schema`, a name of the server's own, is obeyed; and `/v1/chat/completions` obeys
#    `response_format`.
# 2. `usage.completion_tokens` with `"n": 2` is that of one choice. In a stream each choice has a usage
#    of its own, so that a client who keeps the last one, as the API has it, counts half.
# 3. `"logprobs": true` with `"top_logprobs": 0`, as clients ask for the chosen tokens alone, gives no log
#    probabilities at all; without `top_logprobs` they come with 20 alternatives each.
#
# Output seen (CPython 3.11, x86-64; a model of random weights, which says one byte over and over):
#     completions, response_format: not JSON of the schema
#     completions, json_schema: "no"
#     chat, response_format: "yes"
#     n=2, 8 tokens each: completion_tokens 8 ; in the stream [8, 8]
#     logprobs, top_logprobs 0: None ; unsaid: [20, 20, 20, 20, 20, 20, 20, 20]
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 gguf==0.18.0 numpy
cat > ask.py <<'PYTHON'
import json, random, socket, urllib.request
import gguf, numpy, xllamacpp

# A Qwen2 of one layer over the 256 bytes, which GPT-2's table writes as printable signs.
shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
hidden = [byte for byte in range(256) if byte not in shown]
signs = [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]
tokens = [*signs, "<end>"]
width, heads, inner = 64, 2, 128
numbers = numpy.random.default_rng(1)
out = gguf.GGUFWriter("tiny.gguf", "qwen2")
out.add_block_count(1)
out.add_context_length(512)
out.add_embedding_length(width)
out.add_feed_forward_length(inner)
out.add_head_count(heads)
out.add_head_count_kv(heads)
out.add_layer_norm_rms_eps(1e-6)
out.add_rope_freq_base(10_000.0)
out.add_tokenizer_model("gpt2")
out.add_tokenizer_pre("qwen2")
out.add_token_list(tokens)
out.add_token_types([1] * 256 + [3])
out.add_token_merges([f"{signs[0]} {signs[1]}"])
out.add_eos_token_id(256)
out.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")


def tensor(name, *shape):
    out.add_tensor(name, numbers.normal(0, 0.02, shape).astype(numpy.float32))


tensor("token_embd.weight", len(tokens), width)
for part in ("q", "k", "v"):
    tensor(f"blk.0.attn_{part}.weight", width, width)
    tensor(f"blk.0.attn_{part}.bias", width)
tensor("blk.0.attn_output.weight", width, width)
tensor("blk.0.ffn_gate.weight", inner, width)
tensor("blk.0.ffn_up.weight", inner, width)
tensor("blk.0.ffn_down.weight", width, inner)
for norm in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
    out.add_tensor(f"{norm}.weight", numpy.ones(width, numpy.float32))
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
wanted = xllamacpp.CommonParams()
wanted.model.path = "tiny.gguf"
wanted.hostnames, wanted.port = ["127.0.0.1"], port
wanted.n_parallel, wanted.n_ctx, wanted.ui = 2, 1024, False
wanted.warmup = False
server = xllamacpp.Server(wanted)


def ask(path, **body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/{path}",
        json.dumps({"temperature": 0, "max_tokens": 8, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode(errors="replace")


def is_one(text):
    return text.strip() in ('"yes"', '"no"')


schema = {"enum": ["yes", "no"]}
wrapped = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
hello = [{"role": "user", "content": "hello"}]
long = {"max_tokens": 300}

ignored = json.loads(ask("completions", prompt="hello", response_format=wrapped))["choices"][0]["text"]
obeyed = json.loads(ask("completions", prompt="hello", json_schema=schema, **long))["choices"][0]["text"]
chat = json.loads(ask("chat/completions", messages=hello, response_format=wrapped, **long))
in_chat = chat["choices"][0]["message"]["content"]
print("completions, response_format:", "obeyed" if is_one(ignored) else "not JSON of the schema")
print("completions, json_schema:", obeyed.strip())
print("chat, response_format:", in_chat.strip())

two = {"messages": hello, "n": 2, "ignore_eos": True}
whole = json.loads(ask("chat/completions", **two))["usage"]["completion_tokens"]
options = {"stream": True, "stream_options": {"include_usage": True}}
lines = ask("chat/completions", **two, **options).splitlines()
events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
streamed = [event["usage"]["completion_tokens"] for event in events if event.get("usage")]
print("n=2, 8 tokens each: completion_tokens", whole, "; in the stream", streamed)


def logprobs(**asked):
    body = ask("chat/completions", messages=hello, ignore_eos=True, logprobs=True, **asked)
    found = json.loads(body)["choices"][0].get("logprobs")
    return [len(token["top_logprobs"]) for token in found["content"]] if found else None


none, unsaid = logprobs(top_logprobs=0), logprobs()
print("logprobs, top_logprobs 0:", none, "; unsaid:", unsaid)
same = not is_one(ignored) and is_one(obeyed) and is_one(in_chat)
same = same and whole == 8 and streamed == [8, 8] and none is None and unsaid == [20] * 8
del server
raise SystemExit(not same)
PYTHON
env/bin/python ask.py 2>/dev/null
