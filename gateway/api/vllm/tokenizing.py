"""`/tokenize` and `/detokenize`, as vLLM has them: a prompt's tokens, and the text of tokens. The
worker of the model answers, whose tokenizer it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import orjson
from pydantic import BaseModel, Field, model_validator

from contract.asked import PromptReport, Template
from contract.messages import Delta, Done, Job, PromptDelta, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, OnlyFalse, Unsupported
from gateway.api.openai.chat_messages import ChatMessageParam, turns_of
from gateway.api.openai.detail import PromptSoFar
from gateway.api.openai.tools import ToolDefinitions, tools_of
from gateway.api.openai.values import TemplateArguments, TokenId
from gateway.http.error_answers import OPENAI
from gateway.http.errors import invalid
from gateway.streams.dialects import AnswerChoice, Timings


class _PromptBody(LenientBody, GenerationBody):
    """The job of both routes: nothing is generated."""

    is_lenient: ClassVar[bool] = True
    model: fields.OnlyModel = ""

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    def reading(self, job_id: str, key_id: str, *, names: bool = False, **prompt: Any) -> Job:
        report = PromptReport(names=names, only=True)
        return Job(job_id, self.model, Sampling(), report=report, key_id=key_id, **prompt)


class TokenizeRequest(_PromptBody):
    """A `prompt`, or the `messages` of a chat."""

    prompt: str | None = None
    messages: fields.Turns[ChatMessageParam] | None = None
    add_special_tokens: bool | None = Field(None, description="For a `prompt`; usually true.")
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: Unsupported = None
    chat_template_kwargs: TemplateArguments | None = None
    tools: ToolDefinitions | None = None
    media_io_kwargs: Ignored = None
    mm_processor_kwargs: Ignored = None
    return_offsets: OnlyFalse = None

    @model_validator(mode="after")
    def _has_one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give `prompt` or `messages`")
        return self

    def job(self, job_id: str, key_id: str) -> Job:
        names = bool(self.return_token_strs)
        if self.messages is None:
            special = self.add_special_tokens
            prompt = {"prompt": self.prompt, "add_special_tokens": special}
            return self.reading(job_id, key_id, names=names, **prompt)
        if self.add_special_tokens:
            raise invalid("add_special_tokens", "the chat template says which there are")
        messages = turns_of(self.messages)
        tools = tools_of(self.tools, None, None)
        chat = {"messages": messages, "template": self._template(), "tools": tools}
        return self.reading(job_id, key_id, names=names, **chat)

    def _template(self) -> Template:
        continues = bool(self.continue_final_message)
        opens = not continues if self.add_generation_prompt is None else self.add_generation_prompt
        if continues and opens:
            raise invalid("continue_final_message", "excludes `add_generation_prompt`")
        arguments = self.chat_template_kwargs
        return Template(orjson.dumps(arguments).decode() if arguments else "", opens, continues)


class DetokenizeRequest(_PromptBody):
    tokens: Annotated[list[TokenId], Field(max_length=1_000_000, fail_fast=True)]

    def job(self, job_id: str, key_id: str) -> Job:
        return self.reading(job_id, key_id, prompt_ids=tuple(self.tokens))


class Tokenized(BaseModel):
    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = Field(description="With `return_token_strs`.")


class Detokenized(BaseModel):
    prompt: str


class PromptChoice(AnswerChoice):
    """The report on the prompt as far as it has come."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = PromptSoFar()

    def add(self, delta: Delta) -> None:
        if isinstance(delta, PromptDelta):
            self.prompt.add(delta)


class TokensWhole:
    """One JSON object, a `Tokenized`."""

    errors = OPENAI

    def __init__(self, max_model_len: int | None, *, names: bool) -> None:
        self._max_model_len = max_model_len
        self._names = names

    def new_choice(self) -> PromptChoice:
        return PromptChoice()

    def body(self, choices: list[PromptChoice], done: Done, timings: Timings) -> bytes:
        prompt = choices[0].prompt
        answer = {
            "count": len(prompt.ids),
            "max_model_len": self._max_model_len,
            "tokens": prompt.ids,
            "token_strs": prompt.names if self._names else None,
        }
        return orjson.dumps(answer)


class TextOfTokensWhole:
    """One JSON object, a `Detokenized`."""

    errors = OPENAI

    def new_choice(self) -> PromptChoice:
        return PromptChoice()

    def body(self, choices: list[PromptChoice], done: Done, timings: Timings) -> bytes:
        return orjson.dumps({"prompt": choices[0].prompt.text})
