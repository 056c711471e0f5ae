#!/usr/bin/env bash
# openai-agents 0.24.0, chat completions: whether a model that thinks gets its thoughts back after a tool call depends on what the
# server calls them. Guess: thoughts that the SDK has read (both names are understood) go back with the call, or never do. It misses:
# as `reasoning` they go back, as `reasoning_content` they do not, unless the model's name has `deepseek` in it, and a server that
# says both, for the sake of clients that read one of them, loses what it had. With the hook `should_replay_reasoning_content` they
# go back in each case. Templates of models that go on thinking between calls need them.
#
# Output seen (CPython 3.11), for an answer with these names: what goes back with the call.
#     reasoning: reasoning
#     reasoning_content: nothing
#     reasoning_content, of `my-deepseek`: reasoning_content
#     reasoning and reasoning_content: nothing
#     reasoning and reasoning_content, with the hook: reasoning_content
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check openai-agents==0.24.0 openai==3.57.0 2> log || { cat log; exit 1; }
cat > ask.py <<'PYTHON'
"""An agent with one tool, and a server that thinks, has it called, and is done."""
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
BOTH = ("reasoning", "reasoning_content")
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
names, asked = (), []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        is_last = any(turn["role"] == "tool" for turn in asked[-1]["messages"])
        message = {"role": "assistant", "content": "done"} if is_last else {
            "role": "assistant", "content": None, "tool_calls": [CALL], **dict.fromkeys(names, "Hm.")
        }
        reason = "stop" if is_last else "tool_calls"
        choices = [{"index": 0, "finish_reason": reason, "message": message}]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_):
        """It keeps quiet."""


@function_tool
def look() -> str:
    """Look out of the window."""
    return "sunny"


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()


def back(said, model="m", **hook):
    """What goes back with the call, after an answer with these names for thoughts."""
    global names
    names = said
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
    asking = OpenAIChatCompletionsModel(model, client, **hook)
    assert Runner.run_sync(Agent(name="a", model=asking, tools=[look]), "Is it?").final_output == "done"
    called = next(turn for turn in asked[-1]["messages"] if turn["role"] == "assistant")
    return " and ".join(name for name in BOTH if called.get(name)) or "nothing"


print("reasoning:", back(["reasoning"]))
print("reasoning_content:", back(["reasoning_content"]))
print("reasoning_content, of `my-deepseek`:", back(["reasoning_content"], "my-deepseek"))
print("reasoning and reasoning_content:", back(BOTH))
hook = {"should_replay_reasoning_content": lambda context: True}
print("reasoning and reasoning_content, with the hook:", back(BOTH, **hook))
PYTHON
env/bin/python ask.py 2> log | tee seen || { cat log; exit 1; }
diff seen - <<'EXPECTED'
reasoning: reasoning
reasoning_content: nothing
reasoning_content, of `my-deepseek`: reasoning_content
reasoning and reasoning_content: nothing
reasoning and reasoning_content, with the hook: reasoning_content
EXPECTED
