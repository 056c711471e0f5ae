#!/usr/bin/env bash
# openai 3.57.0 and anthropic 2.14.0 for Python send by httpx2 and not by httpx. Two guesses miss where they
# meet OpenTelemetry's packages of the same day; nothing warns of the first.
#
# 1. `HTTPXClientInstrumentor` (opentelemetry-instrumentation-httpx 0.66b2), by which their requests had carried
#    `traceparent`, does not see them: a server gets a trace of its own, which is no part of its caller's.
#    With `http_client=httpx.Client()`, which openai still takes, the header is there.
# 2. opentelemetry-instrumentation-openai-v2 2.4b0, made for this client, cannot be imported beside it alone: it
#    imports httpx, which neither of the two requires.
#
# Output seen (CPython 3.11), whether a request has a `traceparent`:
#     httpx itself: True
#     openai 3.57.0: False
#     openai 3.57.0 with httpx.Client(): True
#     anthropic 2.14.0: False
#     opentelemetry.instrumentation.openai_v2: ModuleNotFoundError: No module named 'httpx'
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for name in traced alone; do python3 -m venv "$name"; done
traced/bin/pip install --quiet --disable-pip-version-check openai==3.57.0 anthropic==2.14.0 httpx==0.28.1 \
    opentelemetry-sdk==1.45.2 opentelemetry-instrumentation-httpx==0.66b2 2> log || { cat log; exit 1; }
alone/bin/pip install --quiet --disable-pip-version-check openai==3.57.0 \
    opentelemetry-instrumentation-openai-v2==2.4b0 2> log || { cat log; exit 1; }
cat > traced.py <<'PYTHON'
"""Asks a server of its own, which tells whether the request is part of a trace."""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import httpx
import openai
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider

seen = []
CHAT = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}}],
}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None,
    "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        seen[:] = [self.headers["traceparent"] is not None]
        body = json.dumps(MESSAGE if self.path.endswith("messages") else CHAT).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
HTTPXClientInstrumentor().instrument(tracer_provider=TracerProvider())
asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def by_openai(**how):
    openai.OpenAI(base_url=url, api_key="k", **how).chat.completions.create(**asked)
    return seen[0]


httpx.post(url, json={})
print("httpx itself:", *seen)
print(f"openai {openai.__version__}:", by_openai())
print(f"openai {openai.__version__} with httpx.Client():", by_openai(http_client=httpx.Client()))
anthropic.Anthropic(base_url=url, api_key="k").messages.create(max_tokens=9, **asked)
print(f"anthropic {anthropic.__version__}:", *seen)
PYTHON
cat > alone.py <<'PYTHON'
try:
    import opentelemetry.instrumentation.openai_v2
    said = "imported"
except ImportError as error:
    said = f"{type(error).__name__}: {error}"
print("opentelemetry.instrumentation.openai_v2:", said)
PYTHON
{ traced/bin/python traced.py; alone/bin/python alone.py; } | tee seen
diff seen - <<'SEEN'
httpx itself: True
openai 3.57.0: False
openai 3.57.0 with httpx.Client(): True
anthropic 2.14.0: False
opentelemetry.instrumentation.openai_v2: ModuleNotFoundError: No module named 'httpx'
SEEN
