"""Parts of the requests and answers of agents that the tests of several APIs share."""

from __future__ import annotations

from typing import Any, Final

from contract.messages import Delta, Event, ReasoningDelta, ToolCallDelta

#: One token, packed.
ONE: Final = b"\1\0\0\0"
#: The schema of a tool's arguments.
SCHEMA: Final[dict[str, Any]] = {"type": "object", "properties": {"city": {"type": "string"}}}
#: The beginning of an answer: `Two calls.`, `I look.` and the call of `weather`, in pieces.
THOUGHT_WORDS_AND_CALL: Final[tuple[Event, ...]] = (
    ReasoningDelta("Two ", ONE),
    ReasoningDelta("calls.", ONE),
    Delta("I ", ONE),
    Delta("look.", ONE),
    ToolCallDelta("", b"", 0, None, 0, "call_a", "weather"),
    ToolCallDelta('{"city": ', ONE),
    ToolCallDelta('"Köln"}', ONE),
)
