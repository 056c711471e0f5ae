"""The parts of a chat's answer in the form that its request wants."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from contract.messages import Delta, FinishReason, ToolCallDelta
from gateway.api.openai.bodies import OpenAIFinishReason
from gateway.streams import sse
from gateway.streams.dialects import CallSoFar


class ChatForm(NamedTuple):
    """The parts of an answer as its request wants them: reasoning or not, and a call in OpenAI's
    first form, which `functions` ask for: `function_call`, one for an answer."""

    reasoning: bool = True
    functions: bool = False

    def finish_reason(self, reason: FinishReason) -> OpenAIFinishReason:
        said = finish_reason_of(reason)
        return "function_call" if self.functions and said == "tool_calls" else said


USUAL: Final = ChatForm()


def inside_of(delta: Delta, text: bytes, form: ChatForm) -> bytes:
    """The inside of the JSON object that a piece of reasoning or of a call is; empty if the
    client does not want it."""
    if not isinstance(delta, ToolCallDelta):
        return b'"reasoning":%b,"reasoning_content":%b' % (text, text) if form.reasoning else b""
    if form.functions:
        return _of_function(delta, text) if delta.call == 0 else b""
    if not delta.name:
        return b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (delta.call, text)
    function = b'{"name":%b,"arguments":%b}' % (sse.json_text(delta.name), text)
    call = b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":%b}]'
    return call % (delta.call, sse.json_text(delta.id), function)


def _of_function(delta: ToolCallDelta, arguments: bytes) -> bytes:
    if not delta.name:
        return b'"function_call":{"arguments":%b}' % arguments
    return b'"function_call":{"name":%b,"arguments":%b}' % (sse.json_text(delta.name), arguments)


def made_call(call: CallSoFar) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": function_of(call)}


def function_of(call: CallSoFar) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def finish_reason_of(reason: FinishReason) -> OpenAIFinishReason:
    """In OpenAI's words, which are the same."""
    if reason == "cancelled":
        raise ValueError("a cancelled answer ends with an error")
    return reason
