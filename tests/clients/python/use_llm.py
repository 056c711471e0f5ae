"""`llm`, the command line tool, by its command and its own file of models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from abilities import KEY, MODEL, QUESTION, SENTENCE, TOOL_QUESTION, URL, report

_FUNCTION = """
def get_weather(city: str) -> str:
    "Get the weather in a city."
    return f"sunny, {len(city)} degrees"
"""
_MODELS = f"""
- model_id: ew
  model_name: {MODEL}
  api_base: {URL}
  api_key_name: ew
  supports_tools: true
  supports_schema: true
"""


def llm(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("llm")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def chat() -> str:
    return llm("-m", "ew", "--no-stream", QUESTION)


def stream() -> str:
    return llm("-m", "ew", QUESTION)


def tools() -> str:
    return llm("-m", "ew", "--functions", _FUNCTION, TOOL_QUESTION)


def structured() -> Any:
    return json.loads(llm("-m", "ew", "--schema", "name, age int", SENTENCE))


if __name__ == "__main__":
    home = Path(os.environ["LLM_USER_PATH"])
    (home / "extra-openai-models.yaml").write_text(_MODELS)
    (home / "keys.json").write_text(json.dumps({"ew": KEY}))
    report(chat, stream, tools, structured)
