"""Items of a conversation, and the turns that they become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Media, ToolCall
from contract.messages import ChatMessage
from gateway.api.content import Content, content_of, part_of
from gateway.api.conversation import joined
from gateway.api.fields import Ignored, LenientBody
from gateway.api.responses.tools import NAMESPACE_MARK, ResponseTools

_MOST_ITEMS: Final = 8_192
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")
#: Those that chats do not have.
_OWN_PARTS_OF_TEXT: Final = ("summary_text", "reasoning_text")


def _as_items(value: Any) -> Any:
    """Text alone stands for one message of the user."""
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


def _content(value: Any) -> Content:
    """Return a content; each part of text begins a line."""
    if value is None or isinstance(value, str):
        return Content(value or "")
    if not isinstance(value, list):
        raise PydanticCustomError("not_text", "not text")
    return content_of(map(_part, value))


def _part(part: Any) -> str | Media:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in _OWN_PARTS_OF_TEXT:
            return text
        case {"type": "input_image", "file_id": str()}:
            raise PydanticCustomError("no_files", "images are not taken from files: give a URL")
        case {"type": str()}:
            return part_of(part)
        case _:
            raise PydanticCustomError("not_a_part", "not a part of text")


def _text(value: Any) -> str:
    """Return a content in which only text can be."""
    content = _content(value)
    if content.media:
        raise PydanticCustomError("text_only", "only text is supported here")
    return content.text


class ResponseItem(LenientBody):
    """One item: a message, reasoning, a call of a function or of a custom tool, what such a call
    returned, or tools. A `reasoning` that is only encrypted has no effect."""

    place = "input[]."
    type: str = "message"
    id: str | None = None
    status: str | None = None
    phase: Ignored = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Any = None
    summary: Any = None
    encrypted_content: Ignored = None
    call_id: str = Field("", max_length=256)
    name: str = Field("", max_length=256)
    namespace: str | None = None
    caller: Ignored = None
    arguments: str = ""
    input: str = ""
    output: Any = None
    tools: ResponseTools | None = None

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        needs = {
            "message": () if self.role else ("role",),
            "function_call": () if self.name else ("name",),
            "custom_tool_call": () if self.name else ("name",),
        }.get(self.type, ())
        if needs:
            raise PydanticCustomError("incomplete", "needs `{name}`", {"name": needs[0]})
        self.turn()
        return self

    @property
    def is_open(self) -> bool:
        """Whether it is the beginning of an answer, for the model to go on with."""
        begins = self.type == "message" and self.role == "assistant"
        return begins and self.status in ("in_progress", "incomplete")

    def turn(self) -> ChatMessage | None:
        """Return the turn that it is, or is a part of."""
        if self.type == "message":
            content = _content(self.content)
            return ChatMessage(self.role or "user", content.text, media=content.media)
        if self.type == "reasoning":
            thought = _text(self.content) or _text(self.summary)
            return ChatMessage("assistant", "", reasoning=thought) if thought else None
        if self.type == "function_call":
            name = f"{self.namespace}{NAMESPACE_MARK}{self.name}" if self.namespace else self.name
            call = ToolCall(self.call_id, name, self.arguments)
            return ChatMessage("assistant", "", tool_calls=(call,))
        if self.type == "custom_tool_call":
            arguments = orjson.dumps({"input": self.input}).decode()
            call = ToolCall(self.call_id, self.name, arguments)
            return ChatMessage("assistant", "", tool_calls=(call,))
        if self.type in _OUTPUTS:
            content = _content(self.output)
            return ChatMessage("tool", content.text, tool_call_id=self.call_id, media=content.media)
        if self.type == "additional_tools":
            return None
        message = "items of type {kind} are not supported"
        raise PydanticCustomError("unknown_item", message, {"kind": self.type})

    def listed(self, name: str) -> dict[str, Any]:
        """Return it as the API lists it, called `name` if it has no id."""
        item: dict[str, Any] = self.model_dump(exclude_defaults=True)
        if self.type == "message" and isinstance(self.content, str):
            kind = "output_text" if self.role == "assistant" else "input_text"
            part: dict[str, Any] = {"type": kind, "text": self.content}
            item["content"] = [part | {"annotations": []} if self.role == "assistant" else part]
        if self.type == "reasoning":
            item["summary"] = self.summary or []
        return {**item, "type": self.type, "id": self.id or name, "status": "completed"}


Items = Annotated[
    list[ResponseItem],
    Field(max_length=_MOST_ITEMS, fail_fast=True),
    BeforeValidator(_as_items, json_schema_input_type=str | list[ResponseItem]),
]


def turns_of(instructions: str | None, items: Iterable[ResponseItem]) -> list[ChatMessage]:
    """Return a conversation as the model's chat template knows it: reasoning, a message and calls
    that follow one another are one turn."""
    return joined(_all_turns(instructions, items), _is_one_turn)


def _all_turns(instructions: str | None, items: Iterable[ResponseItem]) -> Iterator[ChatMessage]:
    if instructions:
        yield ChatMessage("system", instructions)
    for item in items:
        if (turn := item.turn()) is not None:
            yield turn


def _is_one_turn(one: ChatMessage, other: ChatMessage) -> bool:
    """Return whether two messages are of one turn: text before calls, and reasoning before either,
    belong to them; a second message, or reasoning after something else, begins a turn."""
    if not one.role == other.role == "assistant":
        return False
    goes_on = not one.content and not one.tool_calls
    return goes_on or not (other.content or other.reasoning)
