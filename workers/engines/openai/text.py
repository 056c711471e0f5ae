"""The text of an answer, and what a server keeps apart from it, in the forms that servers have."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.engines.openai.tools import UpstreamCall


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: Any = None

    @property
    def thought(self) -> str:
        """Mistral's form of reasoning, in parts of its own."""
        inner = self.thinking if isinstance(self.thinking, list) else []
        said = (each.get("text") for each in inner if isinstance(each, dict))
        return "".join(text for text in said if isinstance(text, str))


class UpstreamText(msgspec.Struct):
    content: str | list[_Part] | None = None
    #: The model's words instead of an answer that it will not give.
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: list[UpstreamCall] | None = None

    @property
    def thought(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.thought for part in self.content)
        said = self.reasoning_content or self.reasoning
        return said if isinstance(said, str) else ""

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type == "text")
        return self.content or self.refusal or ""
