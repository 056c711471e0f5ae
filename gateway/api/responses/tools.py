"""Tools in OpenAI's Responses: functions, functions in namespaces, and custom tools, whose input is
plain text. What OpenAI's own servers run has no effect: the model is not told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Tools
from gateway.api import fields
from gateway.api.fields import Ignored, LenientBody
from gateway.api.openai.tools import (
    MOST_TOOLS,
    FunctionDefinition,
    NamedFunction,
    NamedTool,
    Tool,
    ToolName,
    tools_of,
)
from gateway.http.errors import invalid

#: The separator of a namespace and the name of a tool in it, as vLLM has it.
NAMESPACE_MARK: Final = "__"
_CLIENTS: Final = ("function", "custom", "namespace")
_TEXT_INPUT: Final = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


class ResponseTool(LenientBody):
    place = "tools[]."
    type: str = "function"
    name: ToolName | None = None
    description: str | None = None
    parameters: fields.JsonSchema | None = None
    strict: bool | None = None
    tools: list[ResponseTool] = Field(default_factory=list, max_length=MOST_TOOLS)
    format: dict[str, Any] | None = None
    output_schema: Ignored = None
    allowed_callers: Ignored = None
    defer_loading: Ignored = None

    @model_validator(mode="after")
    def _is_whole(self, info: ValidationInfo) -> Self:
        if self.type not in _CLIENTS:
            if info.context is not None:
                info.context.add(f"tools[].type={self.type:.40}")
        elif self.name is None:
            raise PydanticCustomError("incomplete", "needs `name`")
        if self.format and self.format.get("type") == "grammar":
            raise PydanticCustomError("grammar", "a grammar for a custom tool is not supported")
        return self

    def functions(self, namespace: str = "") -> Iterator[tuple[Tool, CalledAs]]:
        """Return what the model is told of it, and how its calls are told to the client."""
        name = self.name or ""
        if self.type == "namespace":
            for tool in self.tools:
                yield from tool.functions(name)
        elif self.type in _CLIENTS:
            schema = _TEXT_INPUT if self.type == "custom" else self.parameters
            function = FunctionDefinition(
                name=f"{namespace}{NAMESPACE_MARK}{name}" if namespace else name,
                description=self.description,
                parameters=schema,
                strict=self.strict,
            )
            is_custom = self.type == "custom"
            yield Tool(function=function), CalledAs(name, namespace, is_custom)


class CalledAs(NamedTuple):
    """How calls of a function are told: by what name, in which namespace, and whether of a custom
    tool."""

    name: str
    namespace: str = ""
    is_custom: bool = False


class ChosenTool(LenientBody):
    place = "tool_choice."
    type: Literal["function", "custom", "allowed_tools"]
    name: ToolName | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[dict[str, Any]] = Field(default_factory=list, max_length=MOST_TOOLS)

    @model_validator(mode="after")
    def _names_its_tool(self) -> Self:
        if self.type != "allowed_tools" and self.name is None:
            raise PydanticCustomError("incomplete", "needs `name`")
        return self


ResponseTools = Annotated[list[ResponseTool], Field(max_length=MOST_TOOLS, fail_fast=True)]
ResponseChoice = Literal["none", "auto", "required"] | ChosenTool


def latest(tools: Iterable[ResponseTool]) -> list[ResponseTool]:
    """Return tools without those that a later one of the same name stands for. Raises `ApiError` if
    they are too many."""
    found = {tool.name or number: tool for number, tool in enumerate(tools)}
    if len(found) > MOST_TOOLS:
        raise invalid("input", f"with their `tools` there are more than {MOST_TOOLS}")
    return list(found.values())


def names_of(tools: Sequence[ResponseTool]) -> dict[str, CalledAs]:
    """Return how calls of each function are told, by the name that the model knows it by."""
    told = (each for tool in tools for each in tool.functions())
    return {function.function.name: called for function, called in told}


def response_tools_of(
    tools: Sequence[ResponseTool], choice: ResponseChoice | None, parallel: bool | None
) -> Tools | None:
    """Return the tools that the model may call, if there are any. Raises `ApiError`."""
    told = [each for tool in tools for each in tool.functions()]
    functions = [function for function, _ in told]
    if not isinstance(choice, ChosenTool):
        return tools_of(functions, choice, parallel)
    if choice.type == "allowed_tools":
        allowed = {each.get("name") for each in choice.tools}
        functions = [function for function, called in told if called.name in allowed]
        return tools_of(functions, choice.mode, parallel)
    for function, called in told:
        if choice.name in (called.name, function.function.name):
            named = NamedTool(function=NamedFunction(name=function.function.name))
            return tools_of(functions, named, parallel)
    raise invalid("tool_choice.name", f"`{choice.name}` is none of the tools")
