"""The abilities that each client is asked for, and the report on them. Standard library only."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

BASE = os.environ.get("EW_URL", "")
URL = f"{BASE}/v1"
KEY = os.environ.get("EW_KEY", "")
MODEL, VECTORS = "demo", "vectors"
QUESTION = "What is ew?"
TOOL_QUESTION = "What is the weather in Paris?"
SENTENCE = "Anna is 25 years old."
TEXTS = ["one", "two three"]


def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: The name of the city.
    """
    return f"sunny, {len(city)} degrees"


def report(*abilities: Callable[[], Any]) -> None:
    """Try each ability, and print what came of all of them as JSON, by name."""
    print("\n" + json.dumps({ability.__name__: _result(ability) for ability in abilities}))


def _result(ability: Callable[[], Any]) -> Any:
    try:
        return ability()
    except Exception:
        return {"error": traceback.format_exc()}
