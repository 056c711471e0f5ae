#!/usr/bin/env bash
# The official Python clients anthropic 2.14.0 and openai 3.57.0: two things that a server of their APIs,
# or a program that uses them, meets. A guess from the documentation of either API misses each time.
#
# 1. `Anthropic(api_key=...)` sends `Authorization: Bearer ...` and no `X-Api-Key`, the header that the API
#    is documented with and that earlier releases (1.17.0) send. A server or proxy that reads `X-Api-Key`
#    alone finds no key.
# 2. `client.responses.stream(...).get_final_response()` raises `RuntimeError` for an answer that ended as
#    `response.incomplete`, which is how a bound on its tokens ends it, though the stream was valid and
#    whole. The response is in the last event.
#
# Output seen (CPython 3.11):
#     anthropic 2.14.0: authorization
#     anthropic 1.17.0: x-api-key
#     get_final_response: RuntimeError: Didn't receive a `response.completed` event.
#     last event: response.incomplete 'a'
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for name in new old; do python3 -m venv "$name"; done
new/bin/pip install --quiet --disable-pip-version-check anthropic==2.14.0 openai==3.57.0
old/bin/pip install --quiet --disable-pip-version-check anthropic==1.17.0
cat > server.py <<'PYTHON'
"""Answers requests of both APIs, and tells which header had the key."""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

keys = []
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None,
    "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
BEGUN = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": "m",
    "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
}
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
WHOLE = {**ITEM, "status": "incomplete", "content": [{**PART, "text": "a"}]}
ENDED = {
    **BEGUN, "status": "incomplete", "output": [WHOLE],
    "incomplete_details": {"reason": "max_output_tokens"},
}
EVENTS = [
    {"type": "response.created", "response": BEGUN},
    {"type": "response.in_progress", "response": BEGUN},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {"type": "response.content_part.added", **PLACE, "part": PART},
    {"type": "response.output_text.delta", **PLACE, "delta": "a", "logprobs": []},
    {"type": "response.output_text.done", **PLACE, "text": "a", "logprobs": []},
    {"type": "response.content_part.done", **PLACE, "part": {**PART, "text": "a"}},
    {"type": "response.output_item.done", "output_index": 0, "item": WHOLE},
    {"type": "response.incomplete", "response": ENDED},
]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        keys[:] = [each for each in ("x-api-key", "authorization") if self.headers[each]]
        is_stream = self.path.endswith("responses")
        body = json.dumps(MESSAGE)
        if is_stream:
            numbered = [{**each, "sequence_number": number} for number, each in enumerate(EVENTS)]
            body = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in numbered)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"
PYTHON
cat > header.py <<'PYTHON'
import anthropic
from server import URL, keys

client = anthropic.Anthropic(base_url=URL, api_key="k")
client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}])
print(f"anthropic {anthropic.__version__}:", *keys)
PYTHON
cat > incomplete.py <<'PYTHON'
import openai
from server import URL

client = openai.OpenAI(base_url=URL, api_key="k")
with client.responses.stream(model="m", input="x") as stream:
    for event in stream:
        last = event
    try:
        stream.get_final_response()
        print("get_final_response: a response")
    except RuntimeError as error:
        print("get_final_response: RuntimeError:", error)
print("last event:", last.type, repr(last.response.output_text))
PYTHON
{
    new/bin/python header.py
    old/bin/python header.py
    new/bin/python incomplete.py
} | tee seen
diff seen - <<'SEEN'
anthropic 2.14.0: authorization
anthropic 1.17.0: x-api-key
get_final_response: RuntimeError: Didn't receive a `response.completed` event.
last event: response.incomplete 'a'
SEEN
