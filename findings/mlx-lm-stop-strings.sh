# mlx-lm's server (0.32.2, on a Mac or, as here, on Linux) and `stop` of the OpenAI API. Guess: an answer ends before the first
# stop string, as with every other server. It misses: a stop string ends the answer only where the model says exactly the tokens that
# the tokenizer makes of it alone, which is seldom so of a word (a space before it is part of its token). Everywhere
# else it is cut out of the text, and the answer goes on: words are missing, and `finish_reason` is that of the end. Nor is `n`
# heeded, of which one choice comes, or `response_format`. None of it is an error or a warning.
#
# Output seen (CPython 3.11, x86-64; a model made here that says one text):
#     plain: 'two three gateway five' stop
#     stop "gateway": 'two three  five' stop
#     stop " gateway": 'two three' stop
#     stop "gate": 'two three way five' stop
#     choices of n = 2: 1
#     response_format: 'two three gateway five'
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2> "$folder/end" || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.24.0 \
    2> log || { cat log; exit 1; }
mkdir -p model cache/hub
cat > make.py <<'PYTHON'
"""A Llama of one layer that does nothing: each token's row in the head is the token before it in one text."""
import json

import mlx.core as mx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WIDTH = 96
TEXT = " one two three gateway five"
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(vocab_size=WIDTH - 8, special_tokens=["<end>"], show_progress=False)
tokenizer.train_from_iterator([TEXT] * 9, trainer)
tokenizer.save("model/tokenizer.json")
(said,) = [tokenizer.encode(TEXT).tokens]
assert said == ["Ġone", "Ġtwo", "Ġthree", "Ġgateway", "Ġfive"], said

names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}
names["chat_template"] = "{% for message in messages %}{{ message.content }}{% endfor %}"
json.dump(names, open("model/tokenizer_config.json", "w"))
config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": WIDTH, "hidden_size": WIDTH}
config |= {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
config |= {"rms_norm_eps": 1e-6, "max_position_embeddings": 512, "tie_word_embeddings": False}
config |= {"eos_token_id": tokenizer.token_to_id("<end>")}
json.dump(config, open("model/config.json", "w"))

head = [[0.0] * WIDTH for _ in range(WIDTH)]
order = [*tokenizer.encode(TEXT).ids, config["eos_token_id"]]
for token, following in zip(order, order[1:]):
    head[following][token] = 1.0
weights = {"model.embed_tokens.weight": mx.eye(WIDTH), "lm_head.weight": mx.array(head)}
layer = "model.layers.0"
weights |= {f"{layer}.self_attn.{part}_proj.weight": mx.zeros((WIDTH, WIDTH)) for part in "qkvo"}
weights |= {f"{layer}.mlp.{part}_proj.weight": mx.zeros((32, WIDTH)) for part in ("gate", "up")}
weights[f"{layer}.mlp.down_proj.weight"] = mx.zeros((WIDTH, 32))
norms = (f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm")
weights |= {f"{norm}.weight": mx.ones((WIDTH,)) for norm in norms}
mx.save_safetensors("model/model.safetensors", weights, metadata={"format": "mlx"})
PYTHON
cat > ask.py <<'PYTHON'
import json
import time
import urllib.error
import urllib.request


def ask(path, **body):
    body = {"temperature": 0, "max_tokens": 20, **body}
    request = urllib.request.Request(
        f"http://127.0.0.1:{open('port').read()}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    for attempt in range(600):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())["choices"]
        except urllib.error.URLError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def completion(**body):
    (choice,) = ask("completions", prompt=" one", **body)
    return choice["text"], choice["finish_reason"]


answers = {
    "plain": completion(),
    'stop "gateway"': completion(stop=["gateway"]),
    'stop " gateway"': completion(stop=[" gateway"]),
    'stop "gate"': completion(stop=["gate"]),
}
for name, (text, reason) in answers.items():
    print(f"{name}: {text!r} {reason}")
chat = [{"role": "user", "content": " one"}]
choices = len(ask("chat/completions", messages=chat, n=2))
schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}, "strict": True}}
free = ask("chat/completions", messages=chat, response_format=schema)[0]["message"]["content"]
print("choices of n = 2:", choices)
print("response_format:", repr(free))
whole = "two three gateway five"
seen = [whole, "two three  five", "two three", "two three way five"]
raise SystemExit([text for text, _ in answers.values()] != seen or choices != 1 or free != whole)
PYTHON
env/bin/python make.py
python3 -c 'import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1], end="")' > port
HF_HOME=$folder/cache HF_HUB_OFFLINE=1 env/bin/python -m mlx_lm server --model model --port "$(cat port)" > server.log 2>&1 &
server=$!
env/bin/python ask.py || { tail -5 server.log; exit 1; }
