#!/usr/bin/env bash
# vllm-router 0.1.17 in front of a server of the OpenAI API. Guesses: it passes a body on as it is, or
# without what it does not know; and it asks again only where a second try can do no harm.
#
# 1. It adds fields that the client did not send, most of them SGLang's, at their defaults. What it does
#    not know it keeps. So a backend that refuses unknown fields refuses every chat that comes through it.
# 2. It asks five times in all where the backend answers 408, 429, 500 or 503, and does not heed
#    `Retry-After`: one chat beyond a rate limit counts five times towards it. 400, 404, 422 and 501 are
#    asked once. `Idempotency-Key` reaches the backend the same each time.
#
# 3. With its default policy (cache_aware) it asks up to twice more before each chat, with the client's key:
#    `/v1/chat/completions/render`, and where the backend lacks that, `/tokenize`. A backend that counts
#    requests by key counts three, each time again, for it does not remember that both are 404.
#
# Output seen (CPython 3.11, x86-64):
#     added: continue_final_message ignore_eos include_reasoning logprobs no_stop_trim return_hidden_states separate_reasoning skip_special_tokens stream stream_reasoning
#     lost: none
#     before each: POST /v1/chat/completions/render with the key; POST /tokenize with the key
#     asked: 400 once, 404 once, 408 5 times, 422 once, 429 5 times, 500 5 times, 501 once, 503 5 times
#     429 with `Retry-After: 30`: 5 times within 2 s, by 1 Idempotency-Key
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check vllm-router==0.1.17
cat > ask.py <<'PYTHON'
import http.server, json, socket, subprocess, sys, threading, time, urllib.error, urllib.request

seen, aside = [], []
BEFORE = [("/v1/chat/completions/render", True), ("/tokenize", True)]


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "30")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            aside.append((self.path, "Authorization" in self.headers))
            return self.answer(404, b"{}")
        seen.append((body, self.headers.get("Idempotency-Key"), time.monotonic()))
        status = int(body.get("user") or 200)
        message = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        good = {"id": "a", "object": "chat.completion", "choices": [message]}
        self.answer(status, json.dumps(good if status == 200 else {"error": {"message": "no"}}).encode())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
threading.Thread(target=backend.serve_forever, daemon=True).start()
port, figures = free_port(), free_port()
router = subprocess.Popen(
    [
        *(sys.argv[1], "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(figures)),
        *("--disable-circuit-breaker", "--worker-urls", f"http://127.0.0.1:{backend.server_port}"),
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)


def ask(**body):
    """Send a chat; return what the backend saw of it."""
    seen.clear()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}).encode(),
        {"Content-Type": "application/json", "Idempotency-Key": "one", "Authorization": "Bearer x"},
    )
    try:
        urllib.request.urlopen(request, timeout=60).read()
    except urllib.error.HTTPError as error:
        error.read()
    return list(seen)


try:
    deadline = time.monotonic() + 60
    while True:
        try:
            if ask():
                break
        except OSError:
            pass
        assert time.monotonic() < deadline and router.poll() is None, "the router did not start"
        time.sleep(0.2)
    sent = {"temperature": 0.5, "top_k": 5, "cache_salt": "s", "some_field": {"a": 1}}
    ((got, _, _),) = ask(**sent)
    added = sorted(got.keys() - sent.keys() - {"model", "messages"})
    lost = sorted(sent.keys() - got.keys())
    print("added:", *added)
    print("lost:", *(lost or ["none"]))
    before = list(dict.fromkeys(aside))
    print("before each:", "; ".join(f"POST {p} {'with' if k else 'without'} the key" for p, k in before))
    asked = {status: len(ask(user=str(status))) for status in (400, 404, 408, 422, 429, 500, 501, 503)}
    print("asked:", ", ".join(f"{s} once" if n == 1 else f"{s} {n} times" for s, n in asked.items()))
    limited = ask(user="429")
    seconds = limited[-1][2] - limited[0][2]
    keys = len({key for _, key, _ in limited})
    print(f"429 with `Retry-After: 30`: {len(limited)} times within 2 s, by {keys} Idempotency-Key")
    expected = "continue_final_message ignore_eos include_reasoning logprobs no_stop_trim "
    expected += "return_hidden_states separate_reasoning skip_special_tokens stream stream_reasoning"
    same = " ".join(added) == expected and not lost and seconds < 2 and keys == 1
    same = same and before == BEFORE and len(aside) >= 2 * len(asked)
    same = same and [status for status, count in asked.items() if count == 5] == [408, 429, 500, 503]
finally:
    router.terminate()
    router.wait()
raise SystemExit(not same)
PYTHON
env/bin/python ask.py env/bin/vllm-router
