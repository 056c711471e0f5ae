#!/usr/bin/env bash
# Two Python readers of server-sent events, openai 3.52.0 and httpx-sse 0.4.3: a comment (`: text` and an empty
# line, the usual sign of life of a server) is skipped only until the first event with an `id`. After that the
# empty line is taken for an event whose data is empty. The standard says: "If the data buffer is an empty
# string, set the data buffer and the event type buffer to the empty string and return"
# (https://html.spec.whatwg.org/multipage/server-sent-events.html#dispatchMessage). openai's client then parses the
# empty data as JSON, and the stream, which is valid, ends with an exception. A comment without an empty line
# after it is skipped by both at any place, as the standard has it.
#
# Output seen (CPython 3.11):
#     openai 3.52.0, comment, no ids: a b
#     openai 3.52.0, comment after an id: JSONDecodeError
#     openai 3.52.0, comment after an id, no empty line: a b
#     httpx-sse 0.4.3, comment after an id: 3 events, one without data
#     httpx-sse 0.4.3, comment after an id, no empty line: 2 events
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check openai==3.52.0 httpx-sse==0.4.3 httpx==0.28.1
cat > read.py <<'PYTHON'
import json
import httpx
import httpx_sse
import openai

OPENAI, HTTPX_SSE = "openai 3.52.0", "httpx-sse 0.4.3"


def chunk(text):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**body, 'choices': [choice]})}\n\n"


def answering(body):
    headers = {"content-type": "text/event-stream"}
    answer = lambda request: httpx.Response(200, headers=headers, content=body)
    return httpx.Client(transport=httpx.MockTransport(answer))


def by_openai(body):
    client = openai.OpenAI(api_key="k", base_url="http://m", http_client=answering(body))
    messages = [{"role": "user", "content": "x"}]
    try:
        chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
        return " ".join(each.choices[0].delta.content for each in chunks)
    except Exception as error:
        return type(error).__name__


def by_httpx_sse(body):
    with httpx_sse.connect_sse(answering(body), "GET", "http://m") as source:
        events = list(source.iter_sse())
    empty = sum(not each.data for each in events)
    return f"{len(events)} events" + (", one without data" if empty == 1 else "")


END = "data: [DONE]\n\n"
PLAIN = chunk("a") + ": alive\n\n" + chunk("b")
NUMBERED = "id: 0\n" + chunk("a") + ": alive\n\n" + "id: 1\n" + chunk("b")
CLOSE = NUMBERED.replace(": alive\n\n", ": alive\n")
print(f"{OPENAI}, comment, no ids: {by_openai(PLAIN + END)}")
print(f"{OPENAI}, comment after an id: {by_openai(NUMBERED + END)}")
print(f"{OPENAI}, comment after an id, no empty line: {by_openai(CLOSE + END)}")
print(f"{HTTPX_SSE}, comment after an id: {by_httpx_sse(NUMBERED)}")
print(f"{HTTPX_SSE}, comment after an id, no empty line: {by_httpx_sse(CLOSE)}")
PYTHON
venv/bin/python read.py | tee seen
diff seen - <<'SEEN'
openai 3.52.0, comment, no ids: a b
openai 3.52.0, comment after an id: JSONDecodeError
openai 3.52.0, comment after an id, no empty line: a b
httpx-sse 0.4.3, comment after an id: 3 events, one without data
httpx-sse 0.4.3, comment after an id, no empty line: 2 events
SEEN
