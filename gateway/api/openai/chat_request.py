"""The bodies of chats in OpenAI's API, with vLLM's extra fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Literal

from msgspec.structs import replace
from pydantic import Field

from contract import bounds
from contract.asked import Template, Tools
from contract.messages import Job
from gateway.api import fields
from gateway.api.fields import Ignored, Unsupported
from gateway.api.openai.chat_form import ChatForm
from gateway.api.openai.chat_messages import ChatMessageParam, turns_of
from gateway.api.openai.detail import Detail
from gateway.api.openai.schemas import GenerationRequest
from gateway.api.openai.tools import (
    Choice,
    ChosenFunction,
    Functions,
    ToolDefinitions,
    functions_of,
    tools_of,
)
from gateway.api.openai.values import (
    MOST_PROMPTS,
    Documents,
    ReasoningEffort,
    TemplateArguments,
)
from gateway.api.templates import template_of
from gateway.http.errors import invalid


class ChatFields(GenerationRequest):
    """The fields of a chat, beside its turns."""

    max_completion_tokens: bounds.Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=8, fail_fast=True)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: Ignored = None
    tool_choice: Choice | None = None
    tools: ToolDefinitions | None = None
    function_call: Literal["none", "auto"] | ChosenFunction | None = Field(
        None, description="OpenAI's first form of `tool_choice`, for `functions`."
    )
    functions: Functions | None = Field(None, description="OpenAI's first form of `tools`.")
    audio: Unsupported = None
    reasoning_effort: ReasoningEffort | None = Field(
        None, description="For the chat template; not every model's takes note of it."
    )
    include_reasoning: bool | None = Field(None, description="vLLM's; false leaves it out.")
    verbosity: Ignored = None
    web_search_options: Unsupported = None
    moderation: Unsupported = None
    chat_template: Unsupported = None
    chat_template_kwargs: TemplateArguments | None = None
    documents: Documents | None = Field(None, description="vLLM's; for the chat template.")
    mm_processor_kwargs: Unsupported = None
    media_io_kwargs: Unsupported = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    echo: bool | None = Field(None, description="vLLM's: the last message before the answer.")

    @property
    def form(self) -> ChatForm:
        return ChatForm(self.include_reasoning is not False, bool(self.functions))

    @property
    def own_names(self) -> Mapping[str, str]:
        names = dict(super().own_names)
        if self.max_completion_tokens is not None:
            names["max_tokens"] = "max_completion_tokens"
        if self.top_logprobs is not None:
            names["logprobs"] = "top_logprobs"
        return names

    def job_of(
        self, job_id: str, key_id: str, messages: Sequence[ChatMessageParam], tools: Tools | None
    ) -> Job:
        """Return the job for a conversation. Raises `ApiError`."""
        most = self.max_completion_tokens or self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        sampling = self.sampling(most, logprobs)
        if sampling.guided and tools and tools.choice in ("required", "named"):
            # The answer is the call, as in vLLM.
            sampling = replace(sampling, guided=None)
        return Job(
            job_id,
            self.model,
            sampling,
            messages=turns_of(messages),
            template=self._template(),
            tools=tools,
            add_special_tokens=self.add_special_tokens or None,
            **self.of_the_job(key_id),
        )

    def check(self) -> None:
        """Raises `ApiError`."""
        self.check_stream()
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs", "needs `logprobs`")

    def _template(self) -> Template | None:
        """Return the use of the template; None if it is the usual one. Raises `ApiError`."""
        continues = bool(self.continue_final_message)
        opens = not continues if self.add_generation_prompt is None else self.add_generation_prompt
        if continues and opens:
            raise invalid("continue_final_message", "excludes `add_generation_prompt`")
        given = dict(self.chat_template_kwargs or {})
        if self.documents is not None:
            given["documents"] = self.documents
        return template_of(given, self.reasoning_effort, opens=opens, continues=continues)


class ChatCompletionRequest(ChatFields):
    messages: fields.Turns[ChatMessageParam]

    @cached_property
    def detail(self) -> Detail:
        if not self.echo:
            return super().detail
        last = self.messages[-1]
        goes_on = last.role == "assistant" or self.add_generation_prompt is False
        said = last.content.text if last.content else ""
        return super().detail._replace(last_message=said if goes_on else "")

    def job(self, job_id: str, key_id: str) -> Job:
        self.check()
        return self.job_of(job_id, key_id, self.messages, self._tools())

    def _tools(self) -> Tools | None:
        """Raises `ApiError`."""
        if not self.functions:
            return tools_of(self.tools, self.tool_choice, self.parallel_tool_calls)
        if self.tools:
            raise invalid("functions", "excludes `tools`")
        return functions_of(self.functions, self.function_call)


class BatchChatRequest(ChatFields):
    """vLLM's: several conversations, each with one choice of the answer."""

    messages: Annotated[
        list[fields.Turns[ChatMessageParam]],
        Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True),
    ]

    def job(self, job_id: str, key_id: str) -> Job:
        return self.jobs(job_id, key_id)[0]

    def jobs(self, job_id: str, key_id: str) -> list[Job]:
        """One for each conversation. Raises `ApiError`."""
        self.check()
        self._check_batch()
        names = [f"{job_id}-{number}" if number else job_id for number in range(len(self.messages))]
        return [
            self.job_of(name, key_id, messages, None)
            for name, messages in zip(names, self.messages, strict=True)
        ]

    def _check_batch(self) -> None:
        """Raises `ApiError`: an answer has one choice for each conversation, and all at its end."""
        asked = {
            "stream": self.stream,
            "tools": self.tools or self.functions,
            "echo": self.echo,
            "prompt_logprobs": self.prompt_logprobs is not None,
            "n": (self.n or 1) > 1,
        }
        for field, is_asked in asked.items():
            if is_asked:
                raise invalid(field, "not available with several conversations")
