"""Turns of a conversation in Ollama's API, and the calls of tools in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from contract.asked import ToolCall
from contract.messages import ChatMessage
from gateway.api.fields import LenientBody
from gateway.api.ollama.images import Images
from gateway.api.openai.tools import ToolName


class MadeFunction(LenientBody):
    place = "messages[].tool_calls[].function."
    name: ToolName
    arguments: dict[str, Any] = Field(default_factory=dict)


class MadeToolCall(LenientBody):
    place = "messages[].tool_calls[]."
    id: str = Field("", max_length=256)
    function: MadeFunction


class OllamaMessage(LenientBody):
    place = "messages[]."
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: Images = ()
    tool_calls: Annotated[list[MadeToolCall], Field(max_length=512, fail_fast=True)] | None = None
    tool_name: str | None = Field(None, max_length=256)
    tool_call_id: str = Field("", max_length=256)


def turns_of(messages: Iterable[OllamaMessage]) -> Iterator[ChatMessage]:
    """Yield the turns. Calls without ids have their numbers for it."""
    made = 0
    unanswered: list[ToolCall] = []
    for message in messages:
        calls = []
        for call in message.tool_calls or ():
            arguments = orjson.dumps(call.function.arguments).decode()
            calls.append(ToolCall(call.id or f"call_{made}", call.function.name, arguments))
            made += 1
        unanswered += calls
        answered = _answered(message, unanswered) if message.role == "tool" else None
        unanswered = [call for call in unanswered if call.id != answered]
        yield ChatMessage(
            message.role,
            message.content,
            message.tool_name,
            tuple(calls),
            answered,
            message.thinking,
            message.images,
        )


def _answered(message: OllamaMessage, unanswered: Sequence[ToolCall]) -> str:
    """Return the id of the call that a tool's answer is to: the one that it names, else the first
    of that tool, else the first."""
    named = (call.id for call in unanswered if call.name == message.tool_name)
    first = unanswered[0].id if unanswered else "call_0"
    return message.tool_call_id or next(named, first)
