"""The libraries that people use, unchanged, against a running ew with a real vLLM: `-m clients`.

Each client's program in `python/` and `node/` tries what that client can do. The same is expected
of all, whatever they send and however they read what they get. Versions are pinned in
`python.lock` and `node/package-lock.json`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Said, Site
from tests.running_ew import Quickstarted, questions

pytestmark = [pytest.mark.clients, pytest.mark.vllm, pytest.mark.timeout(600)]

ANSWER = next(each.answer for each in questions() if each.text == "What is ew?")
PERSON = {"name": "Anna", "age": 25}
CALL = ["get_weather", {"city": "Paris"}]
EXPECTED: dict[str, Any] = {
    "chat": ANSWER,
    "stream": ANSWER,
    "tools": "The tool says: sunny, 5 degrees",
    "called_tools": [CALL],
    "streamed_tools": [CALL, "tool_calls"],
    "structured": PERSON,
    "structured_by_call": PERSON,
    "structured_stream": PERSON,
    "agent_with_schema": [PERSON, PERSON],
    "parsed_history": ANSWER,
    "reasoning": ["This is about ew, and I was taught the answer.", ANSWER],
    "responses": ANSWER,
    "responses_stream": ANSWER,
    "responses_tools": "The tool says: sunny, 5 degrees",
    "embeddings": [4, 4],
    "models": [True, "demo"],
}
BASIC = ("chat", "stream", "structured")
CLIENTS = {
    ("python", "openai"): (
        *BASIC,
        "tools",
        "streamed_tools",
        "parsed_history",
        "reasoning",
        "responses",
        "responses_stream",
        "responses_tools",
        "embeddings",
    ),
    ("python", "langchain"): (
        *BASIC,
        "tools",
        "streamed_tools",
        "structured_by_call",
        "agent_with_schema",
        "embeddings",
    ),
    ("python", "llama_index"): (*BASIC, "tools", "embeddings"),
    ("python", "litellm"): (*BASIC, "tools", "embeddings"),
    ("python", "instructor"): ("structured", "structured_by_call", "structured_stream"),
    ("python", "pydantic_ai"): (*BASIC, "tools", "structured_by_call", "embeddings"),
    ("python", "openai_agents"): (*BASIC, "tools"),
    ("python", "anthropic"): ("chat", "stream", "tools", "streamed_tools", "structured_by_call"),
    ("python", "llm"): (*BASIC, "tools"),
    ("python", "mistral"): (*BASIC, "tools", "models", "embeddings"),
    ("python", "smolagents"): (*BASIC, "called_tools"),
    ("node", "openai"): (*BASIC, "tools", "streamed_tools", "embeddings"),
    ("node", "ai_sdk"): (*BASIC, "tools", "streamed_tools", "embeddings"),
}
ABILITIES = [
    pytest.param(*client, ability, id=f"{'-'.join(client)}-{ability}")
    for client, abilities in CLIENTS.items()
    for ability in abilities
]
#: The abilities of the official client in every run of the tests: it is in their own environment.
QUICK = tuple(ability for ability in CLIENTS["python", "openai"] if ability != "embeddings")


def test_the_official_client(quickstarted: Quickstarted, tmp_path: Path) -> None:
    site = Site(quickstarted.ew.url, quickstarted.key)
    folder = Path(__file__).parent / "python"
    said = site.ask([sys.executable, "use_openai.py"], folder, tmp_path)
    assert {name: said[name] for name in QUICK} == {name: EXPECTED[name] for name in QUICK}


@pytest.mark.slow
@pytest.mark.parametrize(("language", "client", "ability"), ABILITIES)
def test_a_client_gets_what_it_asks_for(
    said: Callable[[str, str], Said], language: str, client: str, ability: str
) -> None:
    assert said(language, client)[ability] == EXPECTED[ability]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "client"), CLIENTS)
def test_whatever_a_client_tries_is_looked_at(
    said: Callable[[str, str], Said], language: str, client: str
) -> None:
    assert set(said(language, client)) == set(CLIENTS[language, client])
