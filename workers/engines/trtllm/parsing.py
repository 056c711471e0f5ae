"""TensorRT-LLM's own parsers: they tell what a model thinks, and the tools that it calls, from its
text, as its server has them do. Releases before 1.2 have none for calls."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from inspect import signature
from typing import Any

from contract.asked import Guided
from contract.config import ModelConfig
from contract.config.recipes import ChosenParsers
from workers.engines.shared.parsing.known import ParserNames, cannot_parse, installed_parsers
from workers.engines.shared.parsing.text import SaidCalls, SaidThoughts

log = logging.getLogger(__name__)


class TrtllmParsers:
    """The parsers of these names; `is_special` says whether a text is left out of answers as a
    special token, `takes_tags` whether the engine takes structural tags. Raises `CannotServe` if
    TensorRT-LLM has none of a name."""

    thinks_before_constraint = False

    def __init__(
        self, chosen: ChosenParsers, is_special: Callable[[str], bool], *, takes_tags: bool
    ) -> None:
        self._chosen = chosen
        self._takes_tags = takes_tags
        self.thought_marks = ("", "")
        self.keeps_special_for_calls = False
        try:
            if self._chosen.reasoning is not None:
                parser = self._thought_parser({})
                self.thought_marks = _marks(parser)
            if self._chosen.tool is not None:
                calls = self._call_parser()
                marks = filter(None, (calls.bot_token.strip(), calls.eot_token.strip()))
                is_said = getattr(calls, "needs_raw_special_tokens", False)
                self.keeps_special_for_calls = is_said or any(map(is_special, marks))
        except ValueError as error:
            raise cannot_parse(error) from error

    def thoughts(self, arguments: dict[str, Any], *, begun: bool | None) -> _Thoughts:
        parser = self._thought_parser(arguments)
        begin, end = self.thought_marks
        # The template has written the mark, which the parser looks for in the answer.
        if begun is True:
            parser.parse_delta(begin)
        elif begun is False and getattr(parser, "in_reasoning", False):
            parser.parse_delta(end)
        return _Thoughts(parser)

    def calls(self, definitions: str) -> _Calls:
        return _Calls(self._call_parser(), _tools(definitions))

    def strict(self, definitions: str, *, parallel: bool) -> Guided | None:
        """As its server does it since 1.3. None, too, if this release's xgrammar reads no such
        tags: a call is then as the model makes it."""
        functions = [tool.function for tool in _tools(definitions)]
        parser = self._call_parser()
        if not (self._takes_tags and any(each.strict for each in functions)):
            return None
        if not parser.supports_structural_tag():
            return None
        tag = json.dumps({"type": "structural_tag", "format": _tags(parser, functions, parallel)})
        return Guided("structural_tag", tag) if _is_readable(tag) else None

    def _thought_parser(self, arguments: dict[str, Any]) -> Any:
        from tensorrt_llm.llmapi.reasoning_parser import ReasoningParserFactory

        create = ReasoningParserFactory.create_reasoning_parser
        # Since 1.3 some look whether the template was told to think.
        takes = "chat_template_kwargs" in signature(create).parameters
        return create(self._chosen.reasoning, *((arguments,) if takes else ()))

    def _call_parser(self) -> Any:
        try:
            from tensorrt_llm.serve.tool_parser.tool_parser_factory import ToolParserFactory
        except ImportError as error:
            raise ValueError("this release has no parsers of tool calls; 1.2 has") from error
        return ToolParserFactory.create_tool_parser(self._chosen.tool)


def _tools(definitions: str) -> list[Any]:
    from tensorrt_llm.serve.openai_protocol import ChatCompletionToolsParam

    return [ChatCompletionToolsParam.model_validate(tool) for tool in json.loads(definitions)]


def _tags(parser: Any, functions: list[Any], parallel: bool) -> dict[str, Any]:
    """Return the form of an answer whose calls, wherever they are, have arguments of their
    schemas."""
    tell = parser.structure_info()
    infos = [(tell(function.name), function) for function in functions]
    tags = [
        {"type": "tag", "begin": info.begin, "content": _content(function), "end": info.end}
        for info, function in infos
    ]
    triggers = sorted({info.trigger for info, _ in infos})
    return {
        "type": "triggered_tags",
        "triggers": triggers,
        "tags": tags,
        "stop_after_first": not parallel,
    }


def _content(function: Any) -> dict[str, Any]:
    if not function.strict or not function.parameters:
        return {"type": "any_text"}
    return {"type": "json_schema", "json_schema": function.parameters}


def _is_readable(tag: str) -> bool:
    from xgrammar import Grammar

    try:
        Grammar.from_structural_tag(tag)
    except (RuntimeError, ValueError, TypeError) as error:
        log.warning("`strict` tools are not held to their schemas: %s", str(error).splitlines()[0])
        return False
    return True


def known_parsers(model: ModelConfig) -> ChosenParsers:
    """Return the parsers of a model that this TensorRT-LLM has."""
    return installed_parsers(model, "TensorRT-LLM", _names)


def _names() -> ParserNames:
    return ParserNames(_tool_parsers(), _reasoning_parsers())


def _tool_parsers() -> Collection[str]:
    try:
        from tensorrt_llm.serve.tool_parser.tool_parser_factory import ToolParserFactory
    except ImportError:
        return ()
    return list(ToolParserFactory.parsers)


def _reasoning_parsers() -> Collection[str]:
    try:
        from tensorrt_llm.llmapi.reasoning_parser import ReasoningParserFactory
    except ImportError:
        return ()
    # A method since 1.3.
    keys = getattr(ReasoningParserFactory, "keys", None)
    return list(keys() if keys is not None else ReasoningParserFactory.parsers)


def _marks(parser: Any) -> tuple[str, str]:
    begin = getattr(parser, "reasoning_start", "")
    end = getattr(parser, "reasoning_end", "")
    return (begin, end) if begin and end else ("", "")


class _Thoughts:
    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def read(self, text: str) -> SaidThoughts:
        return self._said(self._parser.parse_delta(text)) if text else SaidThoughts()

    def end(self) -> SaidThoughts:
        finish = getattr(self._parser, "finish", None)
        if finish is not None:
            return self._said(finish())
        # Before 1.3 what they hold back, as a mark may begin there, would be lost.
        rest: str = getattr(self._parser, "_buffer", "")
        if rest in self.marks:
            return SaidThoughts()
        is_thought = getattr(self._parser, "in_reasoning", False)
        return SaidThoughts(rest, "") if is_thought else SaidThoughts("", rest)

    @property
    def marks(self) -> tuple[str, str]:
        return _marks(self._parser)

    def _said(self, result: Any) -> SaidThoughts:
        return SaidThoughts.of(result.reasoning_content, result.content)


class _Calls:
    def __init__(self, parser: Any, tools: list[Any]) -> None:
        self._parser = parser
        self._tools = tools

    def read(self, text: str) -> SaidCalls:
        return _calls(self._parser.parse_streaming_increment(text, self._tools))

    def end(self) -> SaidCalls:
        finish = getattr(self._parser, "finish", None)
        return SaidCalls() if finish is None else _calls(finish(self._tools))


def _calls(result: Any) -> SaidCalls:
    return SaidCalls.of(result.normal_text, result.calls)
