"""Content blocks of a conversation, and the turns that they become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Media, ToolCall
from contract.messages import ChatMessage
from gateway.api.anthropic.tools import ClientTool, ToolChange
from gateway.api.content import Content, content_of
from gateway.api.conversation import joined
from gateway.api.fields import Ignored, LenientBody
from gateway.api.media import medium_at, medium_of

#: Blocks that say nothing which the model reads as text.
_WITHOUT_TEXT: Final = (
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_reference",
    "tool_addition",
    "tool_removal",
)
_MOST_BLOCKS: Final = 4_096
#: Claude Code begins its system prompt with a line that differs in each request, and would keep
#: the rest from being found in the engine's cache. vLLM leaves it out, too.
_BILLING: Final = "x-anthropic-billing-header"


def _as_blocks(value: Any) -> Any:
    """Text alone stands for one block of it."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _parts_of_result(value: Any) -> list[str | Media]:
    """Return the parts of a tool's result."""
    if isinstance(value, list):
        return [part for block in value for part in _parts_of(block)]
    return [str(value or "")]


def _parts_of(block: Any) -> list[str | Media]:
    match block:
        case {"type": "text", "text": str(text)}:
            return [text]
        case {"type": "image"}:
            return [_image(block.get("source"))]
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return [text]
        case {"type": "search_result", "content": list(parts)}:
            return [part for each in parts for part in _parts_of(each)]
        case {"type": "tool_reference", "tool_name": str(name)}:
            return [name]
        case {"type": str(kind)}:
            message = "blocks of the type {kind} are not supported"
            raise PydanticCustomError("unknown_block", message, {"kind": kind})
        case _:
            raise PydanticCustomError("not_a_block", "not a content block")


def _image(source: Any) -> Media:
    match source:
        case {"type": "base64", "data": data}:
            return medium_of("image", data)
        case {"type": "url", "url": url}:
            return medium_at("image", url)
        case _:
            raise PydanticCustomError("bad_image", "the source of an image is base64 or a url")


class ContentBlock(LenientBody):
    """One block. `text`, and documents and search results that are text; `image`; `thinking`, whose
    signature is not looked at; `tool_use` and `tool_result`. `redacted_thinking` has no effect."""

    place = "messages[].content[]."
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: Ignored = None
    data: Ignored = None
    id: str = Field("", max_length=256)
    name: str = Field("", max_length=256)
    input: dict[str, Any] | None = None
    tool_use_id: str = Field("", max_length=256)
    content: Any = None
    is_error: Ignored = None
    source: Any = None
    title: Ignored = None
    context: Ignored = None
    citations: Ignored = None
    caller: Ignored = None
    cache_control: Ignored = None
    tool_name: Ignored = None
    tool: ToolChange | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        missing = {
            "text": self.text is None and "text",
            "thinking": self.thinking is None and "thinking",
            "tool_use": not self.name and "name",
            "tool_result": not self.tool_use_id and "tool_use_id",
            "tool_addition": self.tool is None and "tool",
            "tool_removal": self.tool is None and "tool",
        }.get(self.type)
        if missing:
            raise PydanticCustomError("incomplete", "needs `{name}`", {"name": missing})
        self.parts()
        return self

    def parts(self) -> list[str | Media]:
        """Return what the model is to read of it, and to see, apart from reasoning and calls."""
        match self.type:
            case "text":
                return [self.text or ""]
            case "tool_result":
                return _parts_of_result(self.content)
            case kind if kind in _WITHOUT_TEXT:
                return []
            case _:
                given = {"type": self.type, "source": self.source, "content": self.content}
                return _parts_of(given)

    def call(self) -> ToolCall:
        """Return the call that a `tool_use` is."""
        return ToolCall(self.id, self.name, orjson.dumps(self.input or {}).decode())


Blocks = Annotated[
    list[ContentBlock],
    Field(max_length=_MOST_BLOCKS, fail_fast=True),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[ContentBlock]),
]


class MessageParam(LenientBody):
    """One turn."""

    place = "messages[]."
    role: Literal["user", "assistant", "system"]
    content: Blocks


def tools_in_effect(
    tools: Iterable[ClientTool], messages: Iterable[MessageParam]
) -> list[ClientTool]:
    """Return the tools as they are at the end of a conversation that may add and remove some. A
    chat template sees one list of them."""
    known = {tool.name: tool for tool in tools}
    removed: set[str] = set()
    for block in (block for message in messages for block in message.content):
        if (change := block.tool) is None:
            continue
        if change.definition is not None:
            known[change.definition.name] = change.definition
        name = change.definition.name if change.definition else change.name or ""
        if block.type == "tool_removal":
            removed.add(name)
        else:
            removed.discard(name)
    return [tool for name, tool in known.items() if name not in removed]


def turns_of(system: Sequence[ContentBlock], messages: Iterable[MessageParam]) -> list[ChatMessage]:
    """Return a conversation as the model's chat template knows it. Turns of the same role that
    follow one another are one, as the API has it."""
    return joined(_all_turns(system, messages), lambda one, other: one.role == other.role != "tool")


def _all_turns(
    system: Sequence[ContentBlock], messages: Iterable[MessageParam]
) -> Iterator[ChatMessage]:
    yield from _system(system)
    for message in messages:
        if message.role == "system":
            yield from _system(message.content)
        elif message.role == "user":
            yield from _user(message.content)
        else:
            yield _assistant(message.content)


def _system(blocks: Sequence[ContentBlock]) -> Iterator[ChatMessage]:
    said = _content(block for block in blocks if not (block.text or "").startswith(_BILLING))
    if said.text:
        yield ChatMessage("system", said.text, media=said.media)


def _user(blocks: Sequence[ContentBlock]) -> Iterator[ChatMessage]:
    """Yield the results of tools first: they answer the turn before."""
    for block in blocks:
        if block.type == "tool_result":
            result = content_of(block.parts())
            yield ChatMessage(
                "tool", result.text, tool_call_id=block.tool_use_id, media=result.media
            )
    said = [block for block in blocks if block.type != "tool_result"]
    if said or not blocks:
        content = _content(said)
        yield ChatMessage("user", content.text, media=content.media)


def _assistant(blocks: Sequence[ContentBlock]) -> ChatMessage:
    thoughts = [block.thinking for block in blocks if block.thinking]
    content = _content(blocks)
    return ChatMessage(
        "assistant",
        content.text,
        media=content.media,
        tool_calls=tuple(block.call() for block in blocks if block.type == "tool_use"),
        reasoning="\n".join(thoughts) or None,
    )


def _content(blocks: Iterable[ContentBlock]) -> Content:
    return content_of(part for block in blocks for part in block.parts())
