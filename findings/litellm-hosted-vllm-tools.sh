#!/usr/bin/env bash
# LiteLLM 1.110.2, provider `hosted_vllm`: tools do not reach the server as they were given. Guess: that provider sends OpenAI's
# format on, as the server understands all of it; `response_format` goes through unchanged. It misses three times, without a word:
#
# 1. `strict: true` of a tool is left out. A server that constrains calls of strict tools alone leaves them unconstrained.
# 2. `additionalProperties: false` is left out of parameters, at every depth; other values of it stay.
# 3. A *property* that is called `strict` is left out of the parameters, too, and stays in `required`: whatever the model says of
#    it is valid, and it was never told its type.
#
# Providers `openai`, `lm_studio` and `litellm_proxy` send the same tool unchanged.
#
# Output seen (CPython 3.11):
#     hosted_vllm: strict None, closed [], properties ['path'], required ['path', 'strict']
#     hosted_vllm, response_format: strict True, closed [True, True], properties ['path', 'strict']
#     openai: strict True, closed [True, True], properties ['path', 'strict'], required ['path', 'strict']
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check litellm==1.110.2 2> log || { cat log; exit 1; }
cat > ask.py <<'PYTHON'
"""Asks a server of its own, which keeps what it was sent, by two providers."""
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

SENT = []
ANSWER = {"role": "assistant", "content": "ok"}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        SENT.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        choices = [{"index": 0, "finish_reason": "stop", "message": ANSWER}]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_):
        """It keeps quiet."""


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
OPTIONS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "strict": {"type": "boolean"}},
    "required": ["path", "strict"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"options": OPTIONS},
    "required": ["options"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "parse", "strict": True, "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "parse", "strict": True, "schema": SCHEMA}}


def sent(provider, **asked):
    litellm.completion(
        model=f"{provider}/m",
        api_base=f"http://127.0.0.1:{server.server_port}/v1",
        api_key="none",
        messages=[{"role": "user", "content": "Parse it."}],
        **asked,
    )
    return SENT[-1]


def told(strict, schema):
    options = schema["properties"]["options"]
    levels = [each for each in (schema, options) if "additionalProperties" in each]
    closed = [each["additionalProperties"] is False for each in levels]
    return f"strict {strict}, closed {closed}, properties {[*options['properties']]}", options["required"]


for provider in ("hosted_vllm", "openai"):
    function = sent(provider, tools=[TOOL])["tools"][0]["function"]
    words, required = told(function.get("strict"), function["parameters"])
    print(f"{provider}: {words}, required {required}")
    if provider == "hosted_vllm":
        form = sent(provider, response_format=FORMAT)["response_format"]["json_schema"]
        print(f"{provider}, response_format:", told(form.get("strict"), form["schema"])[0])
PYTHON
env/bin/python ask.py 2> log | grep -E '^(hosted_vllm|openai)[:,]' | tee seen || { cat log; exit 1; }
diff seen - <<'EXPECTED'
hosted_vllm: strict None, closed [], properties ['path'], required ['path', 'strict']
hosted_vllm, response_format: strict True, closed [True, True], properties ['path', 'strict']
openai: strict True, closed [True, True], properties ['path', 'strict'], required ['path', 'strict']
EXPECTED
