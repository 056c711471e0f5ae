"""`FunctionCallParser` for calls between `<tool_call>` and `</tool_call>`. As the real one it says
a call's name at one time and its arguments when it is asked again, forgets text that comes at once
with the mark of a call, drops calls of tools that there are not, and says nothing of the beginning
of a call that never comes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sglang.srt.entrypoints.openai.protocol import Tool

_BEGIN, _END = "<tool_call>\n", "\n</tool_call>"
_NAME = re.compile(r'<tool_call>\n\{"name": *"([^"]*)", *"arguments": *')


@dataclass
class ToolCallItem:
    tool_index: int
    name: str | None = None
    parameters: str = ""


class FunctionCallParser:
    ToolCallParserEnum = dict.fromkeys(("qwen", "qwen25"))

    def __init__(
        self,
        tools: list[Tool],
        tool_call_parser: str,
        tokenizer: Any = None,
        tool_choice: Any = None,
        prefix: str = "",
        constrained: bool = False,
    ) -> None:
        if tool_call_parser not in self.ToolCallParserEnum:
            raise ValueError(f"Unsupported tool_call_parser: {tool_call_parser}")
        self.tools = tools
        self._buffer = ""
        self._number = -1
        self._is_named = False

    def parse_stream_chunk(self, chunk_text: str) -> tuple[str, list[ToolCallItem]]:
        if not self.tools:
            return chunk_text, []
        self._buffer += chunk_text
        start = self._buffer.find(_BEGIN)
        if start < 0:
            held = next(n for n in range(len(_BEGIN), -1, -1) if self._buffer.endswith(_BEGIN[:n]))
            text = self._buffer[: len(self._buffer) - held]
            self._buffer = self._buffer[len(text) :]
            return text, []
        self._buffer = self._buffer[start:]
        return "", self._calls()

    def parse_stream_end(self) -> tuple[str, list[ToolCallItem]]:
        return "", []

    def get_structure_constraint(
        self, tool_choice: Any, parallel_tool_calls: bool = True, thinking_mode: bool = False
    ) -> tuple[str, Any] | None:
        if not any(tool.function.strict for tool in self.tools):
            return None
        structures = [
            {
                "begin": f'{_BEGIN}{{"name": "{tool.function.name}", "arguments": ',
                "schema": (tool.function.parameters if tool.function.strict else None) or {},
                "end": f"}}{_END}",
            }
            for tool in self.tools
        ]
        tag = {"type": "structural_tag", "structures": structures, "triggers": [_BEGIN]}
        return "structural_tag", tag

    def _calls(self) -> list[ToolCallItem]:
        head = _NAME.match(self._buffer)
        if head is None:
            return []
        if not self._is_named:
            if head[1] not in {tool.function.name for tool in self.tools}:
                self._buffer = ""
                return []
            self._is_named, self._number = True, self._number + 1
            return [ToolCallItem(self._number, head[1])]
        end = self._buffer.find("}" + _END)
        if end < 0:
            return []
        arguments = json.loads(self._buffer[head.end() : end])
        self._buffer, self._is_named = self._buffer[end + 1 + len(_END) :], False
        return [ToolCallItem(self._number, None, json.dumps(arguments, ensure_ascii=False))]
