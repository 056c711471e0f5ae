"""Images as Ollama's bodies have them: a list of texts in base64, without a type."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer, WithJsonSchema

from contract.asked import Media
from gateway.api.media import medium_at, medium_of

_MOST: Final = 1_024


def _images(value: Any) -> Any:
    if not isinstance(value, list):
        return value or ()
    return tuple(map(_image, value[: _MOST + 1]))


def _image(value: Any) -> Media:
    """Data URLs are taken as well."""
    is_url = isinstance(value, str) and value.startswith("data:")
    return medium_at("image", value) if is_url else medium_of("image", value)


def _digests(images: tuple[Media, ...]) -> list[str]:
    return [each.digest for each in images]


Images = Annotated[
    tuple[InstanceOf[Media], ...],
    Field(max_length=_MOST),
    BeforeValidator(_images),
    PlainSerializer(_digests),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
