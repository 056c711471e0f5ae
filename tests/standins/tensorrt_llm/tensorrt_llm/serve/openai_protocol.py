"""`ChatCompletionToolsParam`, as parsers of calls take it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class FunctionDefinition(BaseModel):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatCompletionToolsParam(BaseModel):
    type: Literal["function"] = "function"
    function: FunctionDefinition
