"""The content of a chat message, as text or in parts."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

#: The types of parts that are text, and where each has it (vLLM 0.32 takes the same).
_PARTS_OF_TEXT: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_TEXT_PART: Final = {
    "type": "object",
    "properties": {"type": {"enum": list(_PARTS_OF_TEXT)}, "text": {"type": "string"}},
    "required": ["type"],
}
_PART: Final = {"anyOf": [{"type": "string"}, _TEXT_PART]}


def _text(value: Any) -> Any:
    """Chat content may come in parts, of which only text is understood. Each begins a line, as
    vLLM has it."""
    return "\n".join(map(_text_of, value)) if isinstance(value, list) else value


def _text_of(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise PydanticCustomError("not_a_part", "not a part of text")
    if kind not in _PARTS_OF_TEXT:
        raise PydanticCustomError("text_only", "only text is supported, not {kind}", {"kind": kind})
    text = part.get(_PARTS_OF_TEXT[kind])
    if not isinstance(text, str):
        raise PydanticCustomError("not_a_part", "not a part of text")
    return text


TextContent = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}),
]
