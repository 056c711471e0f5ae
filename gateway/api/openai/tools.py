"""Tools in OpenAI's chat completions: what the model may call, what it has called, and what
came back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BeforeValidator, Field, StringConstraints

from contract.asked import ToolCall, ToolChoice, Tools
from gateway.api import fields
from gateway.api.fields import Ignored, LenientBody
from gateway.http.errors import invalid

MOST_TOOLS: Final = 512
_MOST_CALLS: Final = 512
ToolName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def _as_text(value: Any) -> Any:
    """Some clients send the arguments of an earlier call as the object that they are."""
    return orjson.dumps(value).decode() if isinstance(value, dict) else value


ArgumentsText = Annotated[
    str, BeforeValidator(_as_text, json_schema_input_type=str | dict[str, Any])
]


class FunctionDefinition(LenientBody):
    place = "tools[].function."
    name: ToolName
    description: str | None = None
    parameters: fields.JsonSchema | None = None
    strict: bool | None = None


class Tool(LenientBody):
    place = "tools[]."
    type: Literal["function"] = "function"
    function: FunctionDefinition


class NamedFunction(LenientBody):
    place = "tool_choice.function."
    name: ToolName


class NamedTool(LenientBody):
    place = "tool_choice."
    type: Literal["function"] = "function"
    function: NamedFunction


class FunctionCalled(LenientBody):
    place = "messages[].tool_calls[].function."
    name: ToolName
    arguments: ArgumentsText = ""


class ToolCallParam(LenientBody):
    """A call of an earlier turn."""

    place = "messages[].tool_calls[]."
    id: str = Field("", max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCalled
    index: Ignored = None

    def call(self) -> ToolCall:
        return ToolCall(self.id, self.function.name, self.function.arguments)


class EarlierCall(LenientBody):
    """A call of an earlier turn, in OpenAI's first form."""

    place = "messages[].function_call."
    name: ToolName
    arguments: ArgumentsText = ""


class ChosenFunction(LenientBody):
    place = "function_call."
    name: ToolName


ToolDefinitions = Annotated[list[Tool], Field(max_length=MOST_TOOLS, fail_fast=True)]
Functions = Annotated[list[FunctionDefinition], Field(max_length=MOST_TOOLS, fail_fast=True)]
ToolCalls = Annotated[list[ToolCallParam], Field(max_length=_MOST_CALLS, fail_fast=True)]
#: `any` is Mistral's word for `required`, which its clients send.
Choice = Annotated[
    Literal["none", "auto", "required"] | NamedTool,
    BeforeValidator(lambda value: "required" if value == "any" else value),
]


def tools_of(
    definitions: Sequence[Tool] | None, choice: Choice | None, parallel: bool | None
) -> Tools | None:
    """Return the tools of a request, if it has any. Raises `ApiError`."""
    if not definitions:
        if choice not in (None, "none", "auto"):
            raise invalid("tool_choice", "needs `tools`")
        return None
    kind: ToolChoice = "named" if isinstance(choice, NamedTool) else choice or "auto"
    name = choice.function.name if isinstance(choice, NamedTool) else ""
    if name and all(tool.function.name != name for tool in definitions):
        raise invalid("tool_choice.function.name", f"`{name}` is none of the tools")
    written = [tool.model_dump(exclude_none=True) for tool in definitions]
    return Tools(orjson.dumps(written).decode(), kind, name, parallel is not False)


def functions_of(
    functions: Sequence[FunctionDefinition],
    chosen: Literal["none", "auto"] | ChosenFunction | None,
) -> Tools | None:
    """Return the tools of a request with `functions`, of which an answer calls one at most.
    Raises `ApiError`."""
    choice: Choice | None
    if isinstance(chosen, ChosenFunction):
        if all(function.name != chosen.name for function in functions):
            raise invalid("function_call.name", f"`{chosen.name}` is none of the functions")
        choice = NamedTool(function=NamedFunction(name=chosen.name))
    else:
        choice = chosen
    return tools_of([Tool(function=function) for function in functions], choice, parallel=False)
