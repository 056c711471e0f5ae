"""`Tool`, as `FunctionCallParser` takes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Function(BaseModel):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


class Tool(BaseModel):
    type: Literal["function"] = "function"
    function: Function
