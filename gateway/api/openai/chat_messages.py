"""The turns of a conversation in OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from pydantic import Field

from contract.asked import ToolCall
from contract.messages import ChatMessage
from gateway.api.content import Content, MessageContent
from gateway.api.fields import Ignored, LenientBody, Unsupported
from gateway.api.openai.tools import EarlierCall, ToolCalls
from gateway.api.openai.values import OwnRole


class ChatMessageParam(LenientBody):
    """One turn. Clients send back whole messages that they were sent, with fields of no use."""

    place = "messages[]."
    role: OwnRole
    content: MessageContent | None = None
    name: str | None = Field(None, max_length=64)
    refusal: Ignored = None
    annotations: Ignored = None
    audio: Unsupported = None
    function_call: EarlierCall | None = Field(None, description="OpenAI's first form.")
    tool_calls: ToolCalls | None = None
    tool_call_id: str | None = Field(None, max_length=256)
    reasoning: str | None = None
    reasoning_content: str | None = Field(None, description="Another name of `reasoning`.")

    def turn(self) -> ChatMessage:
        content = self.content or Content("")
        return ChatMessage(
            self.role,
            content.text,
            self.name,
            tuple(call.call() for call in self.tool_calls or ()),
            self.tool_call_id,
            self.reasoning or self.reasoning_content,
            content.media,
        )


def turns_of(messages: Sequence[ChatMessageParam]) -> tuple[ChatMessage, ...]:
    """Return the turns of a conversation. A call in OpenAI's first form, and what came back of it
    (the role `function`), are a tool's, which templates know."""
    turns, called = [], ""
    for number, message in enumerate(messages):
        turn = message.turn()
        if message.function_call is not None and not turn.tool_calls:
            # Nine letters and digits, as Mistral's templates want an id.
            called = f"call{number:05d}"
            function = message.function_call
            call = ToolCall(called, function.name, function.arguments)
            turn = replace(turn, tool_calls=(call,))
        elif message.role == "function" and called:
            turn = replace(turn, role="tool", tool_call_id=called)
        turns.append(turn)
    return tuple(turns)
