"""Tools and reasoning, as they are asked of a server of the OpenAI API and come back from it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from contract.asked import ToolCall
from contract.messages import ChatMessage, Job
from workers.answers.transcript import ToolPiece
from workers.engines.openai.errors import UpstreamFailed
from workers.engines.shared.content_parts import content_parts


def tools_asked(job: Job) -> dict[str, Any]:
    tools = job.tools
    if tools is None:
        return {}
    named = {"type": "function", "function": {"name": tools.name}}
    asked: dict[str, Any] = {
        "tools": json.loads(tools.definitions),
        "tool_choice": named if tools.choice == "named" else tools.choice,
    }
    return asked if tools.parallel else asked | {"parallel_tool_calls": False}


def messages_asked(messages: Sequence[ChatMessage]) -> list[Any]:
    """Return turns in the form of OpenAI's API."""
    return [_message(each) if each.tool_calls or each.media else each for each in messages]


def _message(message: ChatMessage) -> dict[str, Any]:
    written: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(message, media=()))
    written["content"] = content_parts(message)
    if message.tool_calls:
        # Some servers refuse an empty text beside calls.
        written["content"] = written["content"] or None
        written["tool_calls"] = [_call(call) for call in message.tool_calls]
    return written


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class UpstreamCall(msgspec.Struct):
    """A piece of a tool call."""

    index: int | None = None
    id: str | None = None
    function: _Function | None = None

    @property
    def arguments(self) -> str:
        return (self.function and self.function.arguments) or ""

    @property
    def name(self) -> str:
        return (self.function and self.function.name) or ""


class UpstreamCalls:
    """The tool calls of one choice so far."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def place(self, call: UpstreamCall) -> ToolPiece:
        """Return which call a piece belongs to. Some servers do not count; theirs come whole.
        Some give the name with every piece; the first counts. Raises `UpstreamFailed`."""
        uncounted = len(self._begun) - (not call.name)
        index = uncounted if call.index is None else call.index
        if index in self._begun:
            return ToolPiece(self._begun[index])
        if not call.name:
            raise UpstreamFailed("the server behind this model calls a tool without its name")
        number = self._begun[index] = len(self._begun)
        return ToolPiece(number, call.id or f"call_{uuid.uuid4().hex[:24]}", call.name)
