"""What the children do before and after their work: TensorRT-LLM writes to the standard output,
which is for their report alone."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from typing import Any


def settings() -> dict[str, Any]:
    """What the parent wants. From now on what is printed goes to the log."""
    global _report_to
    _report_to = os.dup(1)
    os.dup2(2, 1)
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def report(facts: dict[str, Any]) -> None:
    """Tell the parent."""
    os.write(_report_to, json.dumps(facts).encode())


def has_plans() -> bool:
    """Whether this TensorRT-LLM can build plans. Imports it."""
    return any(
        find_spec(name) is not None
        for name in ("tensorrt_llm._tensorrt_engine", "tensorrt_llm.builder")
    )


def say_stage(text: str) -> None:
    print(f"stage: {text}", flush=True)
