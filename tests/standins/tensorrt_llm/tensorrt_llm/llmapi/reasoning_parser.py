"""`ReasoningParserFactory`, with a parser of `<think>...</think>`, in the form that it has in the
release: up to 1.2 without `finish`, `keys`, and the arguments of the chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..release import RELEASE


@dataclass
class ReasoningParserResult:
    content: str = ""
    reasoning_content: str = ""


class DeepSeekR1Parser:
    def __init__(self, *, reasoning_at_start: bool = False) -> None:
        self.reasoning_start, self.reasoning_end = "<think>", "</think>"
        self.in_reasoning = reasoning_at_start
        self._buffer = ""

    def parse_delta(self, delta_text: str) -> ReasoningParserResult:
        self._buffer += delta_text
        if any(
            mark.startswith(self._buffer) for mark in (self.reasoning_start, self.reasoning_end)
        ):
            return ReasoningParserResult()
        text, self._buffer = self._buffer, ""
        if not self.in_reasoning:
            _, begin, thought = text.partition(self.reasoning_start)
            if not begin:
                return ReasoningParserResult(text)
            self.in_reasoning, text = True, thought
        thought, end, rest = text.partition(self.reasoning_end)
        if end:
            self.in_reasoning = False
            return ReasoningParserResult(rest, thought)
        mark = self.reasoning_end
        held = next(n for n in range(len(mark), -1, -1) if text.endswith(mark[:n]))
        self._buffer = text[len(text) - held :]
        return ReasoningParserResult("", text[: len(text) - held])


class FinishingParser(DeepSeekR1Parser):
    def finish(self) -> ReasoningParserResult:
        rest, self._buffer = self._buffer, ""
        if rest in (self.reasoning_start, self.reasoning_end):
            return ReasoningParserResult()
        return ReasoningParserResult("", rest) if self.in_reasoning else ReasoningParserResult(rest)


def _created(name: str, parser: type) -> Any:
    if name.lower() not in RELEASE["reasoning_parsers"]:
        raise ValueError(f"Invalid reasoning parser: {name}")
    return parser(reasoning_at_start=name.lower() == "deepseek-r1")


if RELEASE["has_plans"]:

    class ReasoningParserFactory:
        parsers: dict[str, type] = dict.fromkeys(RELEASE["reasoning_parsers"], DeepSeekR1Parser)

        @staticmethod
        def create_reasoning_parser(reasoning_parser: str) -> Any:
            return _created(reasoning_parser, DeepSeekR1Parser)

else:

    class ReasoningParserFactory:  # type: ignore[no-redef]
        @classmethod
        def create_reasoning_parser(
            cls, reasoning_parser: str, chat_template_kwargs: dict[str, Any] | None = None
        ) -> Any:
            return _created(reasoning_parser, FinishingParser)

        @classmethod
        def keys(cls) -> Any:
            return dict.fromkeys(RELEASE["reasoning_parsers"]).keys()
