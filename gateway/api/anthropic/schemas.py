"""The bodies of Anthropic's Messages API, with vLLM's extra fields, and as lenient as vLLM.

| Anthropic's | is |
|---|---|
| `system`, messages of the role `system` | turns of the role `system` |
| block `text` | text; blocks of one turn are lines |
| block `image` (`base64`, `url`), also in a `tool_result` | an image at its place in the turn |
| block `thinking` | the turn's reasoning |
| blocks `tool_use`, `tool_result` | the turn's calls; a turn of the role `tool` |
| a last message of the assistant | the beginning of the answer |
| `tools[].input_schema`, `tool_choice` | a function's parameters; `any` is `required` |
| `thinking`, `output_config.effort` | `enable_thinking`, `reasoning_effort` of the chat template |
| `output_config.format` | a constraint on the answer |
| `stop_sequences`, `max_tokens`, `temperature`, `top_p`, `top_k` | the same |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contract import bounds
from contract.asked import Template, Tools
from contract.messages import Job, Sampling
from gateway.api import fields
from gateway.api.anthropic.blocks import Blocks, MessageParam, tools_in_effect, turns_of
from gateway.api.anthropic.tools import ClientTool
from gateway.api.fields import GenerationBody, Ignored, LenientBody, OnlyFalse, Unsupported
from gateway.api.guided import guided_by
from gateway.api.openai.tools import (
    MOST_TOOLS,
    NamedFunction,
    NamedTool,
    ToolName,
    tools_of,
)
from gateway.api.openai.values import TemplateArguments
from gateway.api.prompt_count import counting
from gateway.api.templates import template_of
from gateway.http.errors import invalid

_OWN_NAMES: Final = {
    "max_tokens": "max_tokens",
    "min_tokens": "min_tokens",
    "logprobs": "logprobs",
}


class MessagesToolChoice(LenientBody):
    place = "tool_choice."
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _names_its_tool(self) -> Self:
        if self.type == "tool" and self.name is None:
            raise PydanticCustomError("incomplete", "needs `name`")
        return self


class Thinking(LenientBody):
    place = "thinking."
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class OutputFormat(LenientBody):
    place = "output_config.format."
    type: Literal["json_schema"]
    schema_: fields.JsonSchema = Field(alias="schema")


class OutputConfig(LenientBody):
    place = "output_config."
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class PromptOfMessages(LenientBody):
    """The parts of a prompt."""

    model: fields.ModelName
    messages: fields.Turns[MessageParam]
    system: Blocks = Field(default_factory=list)
    tools: Annotated[list[ClientTool], Field(max_length=MOST_TOOLS, fail_fast=True)] | None = None
    tool_choice: MessagesToolChoice | None = None
    thinking: Thinking | None = Field(
        None, description="For the chat template; not every model's takes note of it."
    )
    output_config: OutputConfig | None = None
    cache_control: Ignored = None
    speed: Ignored = None
    user_profile_id: Ignored = None
    workspace_id: Ignored = None
    chat_template_kwargs: TemplateArguments | None = Field(None, description="vLLM's.")
    mcp_servers: Unsupported = None

    def asked_tools(self) -> Tools | None:
        """Return the tools that the model may call. Raises `ApiError`."""
        choice = self.tool_choice or MessagesToolChoice(type="auto")
        parallel = not choice.disable_parallel_tool_use
        tools = tools_in_effect(self.tools or (), self.messages)
        definitions = [tool.function() for tool in tools]
        if choice.type == "any":
            return tools_of(definitions, "required", parallel)
        if choice.type != "tool" or choice.name is None:
            return tools_of(definitions, "none" if choice.type == "none" else "auto", parallel)
        if all(tool.name != choice.name for tool in tools):
            raise invalid("tool_choice.name", f"`{choice.name}` is none of the tools")
        return tools_of(definitions, NamedTool(function=NamedFunction(name=choice.name)), parallel)

    def template(self) -> Template | None:
        """Return how the chat template is used."""
        effort = self.output_config.effort if self.output_config else None
        given = dict(self.chat_template_kwargs or {})
        if self.thinking is not None and self.thinking.type == "disabled":
            effort = "none"
        elif self.thinking is not None and self.thinking.type == "enabled":
            given.setdefault("enable_thinking", True)
        last = self.messages[-1]
        continues = last.role == "assistant" and last.content[-1:] != []
        continues = continues and last.content[-1].type == "text"
        return template_of(
            given, effort, opens=not continues, continues=continues, system_first=True
        )

    def prompt_of_job(self) -> dict[str, Any]:
        """Return what the job says of its prompt. Raises `ApiError`."""
        return {
            "messages": tuple(turns_of(self.system, self.messages)),
            "template": self.template(),
            "tools": self.asked_tools(),
        }


class CountTokensRequest(PromptOfMessages, GenerationBody):
    is_lenient = True

    @property
    def own_names(self) -> Mapping[str, str]:
        return _OWN_NAMES

    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for, which generates nothing. Raises `ApiError`."""
        prompt = self.prompt_of_job()
        return counting(Job(job_id, self.model, Sampling(), key_id=key_id, **prompt))


class MessagesRequest(PromptOfMessages, GenerationBody):
    is_lenient = True

    max_tokens: bounds.Tokens
    stop_sequences: fields.Stops | None = None
    stream: bool | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    top_k: bounds.TopK | None = None
    metadata: Ignored = None
    service_tier: Ignored = None
    inference_geo: Ignored = None
    diagnostics: Ignored = None
    container: Unsupported = None
    cache_salt: Annotated[str, StringConstraints(min_length=1, max_length=1_024)] | None = Field(
        None, description="vLLM's, as all that follow."
    )
    watermarking: OnlyFalse = None
    kv_transfer_params: Unsupported = None
    ec_transfer_params: Unsupported = None
    vllm_xargs: Unsupported = None

    @property
    def own_names(self) -> Mapping[str, str]:
        return _OWN_NAMES

    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for. Raises `ApiError`."""
        wanted = self.output_config.format if self.output_config else None
        guides: dict[str, Any] = {"output_config.format": ("json", wanted and wanted.schema_)}
        guided = guided_by(**guides)
        prompt = self.prompt_of_job()
        tools: Tools | None = prompt["tools"]
        if guided and tools and tools.choice in ("required", "named"):
            raise invalid("tool_choice", "a constraint on the answer leaves no room for calls")
        sampling = Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=self.stop_sequences or (),
            guided=guided,
        )
        return Job(
            job_id,
            self.model,
            sampling,
            key_id=key_id,
            cache_salt=self.cache_salt or "",
            counts_prompt=bool(self.stream),
            **prompt,
        )
