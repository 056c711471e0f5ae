"""`ToolParserFactory`, with a parser of calls between `<tool_call>` and `</tool_call>` under all
names. As the real one it says a call's name at one time and its arguments when it is asked again,
forgets text that comes at once with the mark of a call, takes calls of tools that there are not,
and has nothing to say at the end."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ...release import RELEASE

_BEGIN, _END = "<tool_call>\n", "\n</tool_call>"
_NAME = re.compile(r'<tool_call>\n\{"name": *"([^"]*)", *"arguments": *')


@dataclass
class StructureInfo:
    begin: str
    end: str
    trigger: str


@dataclass
class ToolCallItem:
    tool_index: int
    name: str | None = None
    parameters: str = ""


@dataclass
class StreamingParseResult:
    normal_text: str = ""
    calls: list[ToolCallItem] = field(default_factory=list)


class Qwen3ToolParser:
    def __init__(self) -> None:
        self.bot_token, self.eot_token = _BEGIN, _END
        self._buffer = ""
        self._number = -1
        self._is_named = False

    def parse_streaming_increment(self, new_text: str, tools: list[Any]) -> StreamingParseResult:
        self._buffer += new_text
        start = self._buffer.find(_BEGIN)
        if start < 0:
            held = next(n for n in range(len(_BEGIN), -1, -1) if self._buffer.endswith(_BEGIN[:n]))
            text = self._buffer[: len(self._buffer) - held]
            self._buffer = self._buffer[len(text) :]
            return StreamingParseResult(text)
        self._buffer = self._buffer[start:]
        return StreamingParseResult("", self._calls())

    def supports_structural_tag(self) -> bool:
        return True

    def structure_info(self) -> Any:
        begin = '<tool_call>\n{{"name": "{}", "arguments": '
        return lambda name: StructureInfo(begin.format(name), f"}}{_END}", "<tool_call>")

    def _calls(self) -> list[ToolCallItem]:
        head = _NAME.match(self._buffer)
        if head is None:
            return []
        if not self._is_named:
            self._is_named, self._number = True, self._number + 1
            return [ToolCallItem(self._number, head[1])]
        end = self._buffer.find("}" + _END)
        if end < 0:
            return []
        arguments = json.loads(self._buffer[head.end() : end])
        self._buffer, self._is_named = self._buffer[end + 1 + len(_END) :], False
        return [ToolCallItem(self._number, None, json.dumps(arguments))]


class ToolParserFactory:
    parsers: dict[str, type] = dict.fromkeys(RELEASE["tool_parsers"], Qwen3ToolParser)

    @staticmethod
    def create_tool_parser(tool_parser: str) -> Any:
        try:
            return ToolParserFactory.parsers[tool_parser.lower()]()
        except KeyError as error:
            raise ValueError(f"Invalid tool_parser: {tool_parser}") from error
