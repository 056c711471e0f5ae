"""Tools that a client runs, and what changes them in the course of a conversation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from gateway.api import fields
from gateway.api.fields import Ignored, LenientBody
from gateway.api.openai.tools import FunctionDefinition, Tool, ToolName


class ClientTool(LenientBody):
    """A tool that the client runs. Those that Anthropic runs, or whose schema only its models
    know, are refused."""

    place = "tools[]."
    type: str | None = None
    name: ToolName
    description: str | None = None
    input_schema: fields.JsonSchema | None = None
    strict: bool | None = None
    cache_control: Ignored = None
    eager_input_streaming: Ignored = None
    input_examples: Ignored = None
    allowed_callers: Ignored = None
    #: The model is told of all tools at once.
    defer_loading: Ignored = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> Self:
        if self.type not in (None, "custom"):
            kind = {"kind": self.type}
            raise PydanticCustomError("server_tool", "tools of type {kind} are not supported", kind)
        if self.input_schema is None:
            raise PydanticCustomError("incomplete", "needs `input_schema`")
        return self

    def function(self) -> Tool:
        """Return the same in OpenAI's words."""
        schema = {"type": "object", **(self.input_schema or {})}
        return Tool(
            function=FunctionDefinition(
                name=self.name, description=self.description, parameters=schema, strict=self.strict
            )
        )


class ToolChange(LenientBody):
    """A tool that a conversation adds or removes: by its name, or with its definition."""

    place = "messages[].content[].tool."
    type: Literal["tool_reference", "tool_definition"]
    name: ToolName | None = None
    definition: ClientTool | None = None

    @model_validator(mode="after")
    def _names_its_tool(self) -> Self:
        if self.type == "tool_reference" and self.name is None:
            raise PydanticCustomError("incomplete", "needs `name`")
        if self.type == "tool_definition" and self.definition is None:
            raise PydanticCustomError("incomplete", "needs `definition`")
        return self
