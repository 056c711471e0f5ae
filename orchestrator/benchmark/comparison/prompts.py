"""The prompts of a comparison: those of a file, or a set of ew's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from orchestrator.benchmark.load_test import PATHS
from orchestrator.benchmark.recording import read_recording
from orchestrator.errors import UserError

#: Of several kinds, as models that are alike in one differ in another: facts, sums, code, forms
#: that are demanded, other languages, and long answers, in which a difference has time to come.
_OWN: Final = (
    "Name the capital of Australia.",
    "What is 17 times 23? Show each step.",
    "A train leaves at 9:40 and arrives at 13:05. How long does it take?",
    "Write a Python function that returns the n-th Fibonacci number, without recursion.",
    "Explain what a mutex is to somebody who has never programmed.",
    "Translate into French: The library closes at eight, but the café stays open.",
    "Translate into German: She had already left when the letter came.",
    "List five rivers of South America, one a line, without numbers.",
    'Answer in JSON with the keys "name" and "year": who wrote Frankenstein, and when?',
    "Write a haiku about the first snow.",
    "Why is the sky blue? Answer in two sentences.",
    "Tell a story of ten sentences about a lighthouse keeper who finds a map.",
    "Which is larger, 9.11 or 9.9? Say why.",
    "Sort these words by the alphabet: pear, fig, apple, plum, cherry, date.",
    "Write an SQL query that finds the three customers with the most orders.",
    "Summarize the causes of the First World War in five points.",
    "Give the opposite of each: hot, early, empty, brave, shallow.",
    "What does this regular expression match: ^[A-Z][a-z]+(-[A-Z][a-z]+)*$ ?",
    "Compose a polite e-mail that moves a meeting from Tuesday to Thursday.",
    "用中文简单介绍一下长城。",
    "¿Cuántos días tiene un año bisiesto, y por qué?",
    "Convert 72 degrees Fahrenheit to Celsius and round to one decimal.",
    "Describe how bread is made, from the grain to the loaf, in about 200 words.",
    "Repeat exactly: The quick brown fox jumps over the lazy dog. 0123456789 ~!@#$%^&*()",
)
_CHAT: Final = PATHS["chat"]
_FORM: Final = (
    "one prompt a line; or, in a file named *.jsonl, a request a line, as `ew bench --replay` has"
)


class ComparedRequest(NamedTuple):
    """A request as both models have it, but for its `model`. `path` follows the base URL."""

    path: str
    body: dict[str, Any]

    @property
    def words(self) -> str:
        """The prompt, for people."""
        if "messages" not in self.body:
            return str(self.body.get("prompt", ""))
        return "\n".join(str(turn.get("content") or "") for turn in self.body["messages"])


def own_requests(settings: dict[str, Any]) -> list[ComparedRequest]:
    """Return the built-in set."""
    return _of_texts(_OWN, settings)


def read_requests(file: Path, settings: dict[str, Any]) -> list[ComparedRequest]:
    """Return the requests of a file. `settings` count over what they say, but for `max_tokens`.
    Raises `UserError`."""
    if file.suffix == ".jsonl":
        recorded = read_recording(file, "", 1.0)
        if odd := next((each.path for each in recorded if each.path not in PATHS.values()), None):
            raise UserError(f"{file} has a request to `{odd}`", f"only {' and '.join(PATHS)} are")
        own = {"max_tokens": settings["max_tokens"]}
        found = [
            ComparedRequest(each.path, own | each.body | _fixed(settings)) for each in recorded
        ]
        if bad := next((each for each in found if not _has_prompt(each)), None):
            raise UserError(f"{file}: a request to {bad.path} has no prompt", _FORM)
        return found
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {getattr(error, 'strerror', error)}", _FORM) from None
    found = _of_texts((line for line in lines if line.strip()), settings)
    if not found:
        raise UserError(f"{file} has no prompts", _FORM)
    return found


def _of_texts(texts: Iterable[str], settings: dict[str, Any]) -> list[ComparedRequest]:
    return [
        ComparedRequest(_CHAT, {"messages": [{"role": "user", "content": text}], **settings})
        for text in texts
    ]


def _fixed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "max_tokens"}


def _has_prompt(asked: ComparedRequest) -> bool:
    messages = asked.body.get("messages")
    if asked.path != _CHAT:
        return isinstance(asked.body.get("prompt"), str)
    return isinstance(messages, list) and all(isinstance(turn, dict) for turn in messages)
