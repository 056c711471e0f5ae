"""SGLang's own parsers: they tell what a model thinks, and the tools that it calls, from its text,
as SGLang's server has them do."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from contract.asked import Guided
from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers
from workers.engines.shared.parsing.known import ParserNames, cannot_parse, installed_parsers
from workers.engines.shared.parsing.text import SaidCalls, SaidThoughts


class SglangParsers:
    """The parsers of these names. Raises `CannotServe` if SGLang has none of one."""

    #: As its server does it whenever there are tools.
    keeps_special_for_calls = True
    #: Its scheduler knows the end of a thought by its own reasoning parser.
    thinks_before_constraint = True

    def __init__(self, chosen: ChosenParsers, tokenizer: Any) -> None:
        self._chosen = chosen
        self._tokenizer = tokenizer
        self.thought_marks = ("", "")
        try:
            if self._chosen.reasoning is not None:
                detector = self._thought_parser({}, None).detector
                self.thought_marks = (detector.think_start_token, detector.think_end_token)
            if self._chosen.tool is not None:
                self._call_parser("[]")
        except ValueError as error:
            raise cannot_parse(error) from error

    def thoughts(self, arguments: dict[str, Any], *, begun: bool | None) -> _Thoughts:
        return _Thoughts(self._thought_parser(arguments, begun))

    def calls(self, definitions: str) -> _Calls:
        return _Calls(self._call_parser(definitions))

    def strict(self, definitions: str, *, parallel: bool) -> Guided | None:
        parser = self._call_parser(definitions)
        found = parser.get_structure_constraint("auto", parallel_tool_calls=parallel)
        if found is None:
            return None
        kind, value = found
        if hasattr(value, "model_dump"):
            value = value.model_dump(by_alias=True)
        text = value if isinstance(value, str) else json.dumps(value)
        return Guided("json" if kind == "json_schema" else kind, text)

    def _thought_parser(self, arguments: dict[str, Any], begun: bool | None) -> Any:
        from sglang.srt.parser.reasoning_parser import ReasoningParser

        # Of the request they read these alone.
        effort = arguments.get("reasoning_effort")
        request = SimpleNamespace(chat_template_kwargs=arguments, reasoning_effort=effort)
        return ReasoningParser(
            self._chosen.reasoning,
            True,  # `stream_reasoning`
            begun,  # `force_reasoning`
            request,
            tokenizer=self._tokenizer,
            tool_call_parser_active=self._chosen.tool is not None,
        )

    def _call_parser(self, definitions: str) -> Any:
        from sglang.srt.entrypoints.openai.protocol import Tool
        from sglang.srt.function_call.function_call_parser import FunctionCallParser

        tools = [Tool.model_validate(tool) for tool in json.loads(definitions)]
        return FunctionCallParser(tools, self._chosen.tool, tokenizer=self._tokenizer)


def known_parsers(model: ModelConfig) -> ChosenParsers:
    """Return the parsers of a model that this SGLang has."""
    return installed_parsers(model, "SGLang", _names)


def _names() -> ParserNames:
    from sglang.srt.function_call.parser_names import TOOL_CALL_PARSER_NAMES
    from sglang.srt.parser.reasoning_parser_names import REASONING_PARSER_NAMES

    return ParserNames(TOOL_CALL_PARSER_NAMES, REASONING_PARSER_NAMES)


class _Thoughts:
    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def read(self, text: str) -> SaidThoughts:
        return SaidThoughts.of(*self._parser.parse_stream_chunk(text))

    def end(self) -> SaidThoughts:
        return SaidThoughts.of(*self._parser.parse_stream_end())


class _Calls:
    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def read(self, text: str) -> SaidCalls:
        return SaidCalls.of(*self._parser.parse_stream_chunk(text))

    def end(self) -> SaidCalls:
        return SaidCalls.of(*self._parser.parse_stream_end())
