"""The content of a chat message, as text or in parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from contract.asked import Media, MediaKind
from gateway.api.media import medium_at, medium_of

#: The types of parts that are text, and where each has it (vLLM 0.32 takes the same).
_PARTS_OF_TEXT: Final = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
#: The types of parts that have a URL, and what is there. Responses calls the first `input_image`.
_PARTS_AT_URLS: Final[dict[str, MediaKind]] = {
    "image_url": "image",
    "input_image": "image",
    "audio_url": "audio",
    "video_url": "video",
}
_SOUND: Final = "input_audio"
_PART: Final = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "type": {"enum": [*_PARTS_OF_TEXT, *_PARTS_AT_URLS, _SOUND]},
                "text": {"type": "string"},
                "image_url": {"anyOf": [{"type": "string"}, {"type": "object"}]},
                "input_audio": {"type": "object"},
            },
            "required": ["type"],
        },
    ]
}


@dataclass(frozen=True, slots=True)
class Content:
    """Text, and the media in it."""

    text: str
    media: tuple[Media, ...] = ()


def content_of(parts: Iterable[str | Media]) -> Content:
    """Return parts as one content. Texts that follow one another are lines, as vLLM has it."""
    text, media, goes_on = "", [], False
    for part in parts:
        if isinstance(part, Media):
            media.append(Media(part.kind, len(text), *_rest(part)))
        elif part:
            text += f"\n{part}" if goes_on else part
        goes_on = isinstance(part, str) and (goes_on or bool(text))
    return Content(text, tuple(media))


def part_of(part: Any) -> str | Media:
    """Return a part of a message in OpenAI's form, with vLLM's own types. Raises
    `PydanticCustomError`."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise PydanticCustomError("not_a_part", "not a part of text")
    if kind in _PARTS_AT_URLS:
        found = part.get("image_url" if kind == "input_image" else kind)
        url = found.get("url") if isinstance(found, dict) else found
        return medium_at(_PARTS_AT_URLS[kind], url)
    if kind == _SOUND:
        sound = part.get(_SOUND)
        given = sound if isinstance(sound, dict) else {}
        return medium_of("audio", given.get("data"), f"audio/{given.get('format')}")
    if kind not in _PARTS_OF_TEXT:
        message = "parts of the type {kind} are not supported"
        raise PydanticCustomError("unknown_part", message, {"kind": kind})
    text = part.get(_PARTS_OF_TEXT[kind])
    if not isinstance(text, str):
        raise PydanticCustomError("not_a_part", "not a part of text")
    return text


def _content(value: Any) -> Any:
    if isinstance(value, str):
        return Content(value)
    return content_of(map(part_of, value)) if isinstance(value, list) else value


def _rest(media: Media) -> tuple[Any, ...]:
    return media.type, media.digest, media.size, media.data, media.url


def _named(content: Content) -> list[str]:
    """Return words that tell a content from others, for keys of requests that may come again."""
    named = [f"{each.kind} {each.at} {each.digest or each.url}" for each in content.media]
    return [content.text, *named]


MessageContent = Annotated[
    InstanceOf[Content],
    BeforeValidator(_content),
    PlainSerializer(_named),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}),
]
