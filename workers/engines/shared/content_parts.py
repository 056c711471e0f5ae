"""Contents of turns in the form of OpenAI's API: images and the like are data URLs in parts."""

from __future__ import annotations

import base64
from typing import Any

from contract.asked import Media
from contract.media import parts_of
from contract.messages import ChatMessage


def content_parts(message: ChatMessage) -> str | list[dict[str, Any]]:
    """Return the text of a turn, or its parts if it has any but text."""
    if not message.media:
        return message.content
    return [_part(part) for part in parts_of(message)]


def _part(part: str | Media) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    encoded = base64.b64encode(part.data).decode()
    if part.kind == "audio":
        form = part.type.removeprefix("audio/")
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": form}}
    name = f"{part.kind}_url"
    return {"type": name, name: {"url": f"data:{part.type};base64,{encoded}"}}
