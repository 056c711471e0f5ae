"""The common part of requests to pooling models: their inputs, and how those are cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from contract.asked import Pooling, Template
from contract.messages import Job, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, Unsupported
from gateway.api.openai.chat_messages import ChatMessageParam, turns_of
from gateway.api.openai.values import Prompts, TemplateArguments
from gateway.api.templates import template_of
from gateway.http.errors import invalid

Truncation = Annotated[
    int | None,
    Field(ge=-1, le=2**31 - 1, description="Of longer inputs only so many tokens; -1: what fits."),
]
TruncationSide = Annotated[
    Literal["left", "right"] | None,
    Field(description="`right` keeps the first tokens; usually as the tokenizer does it."),
]
#: By the side of a truncation, the tokens that it keeps.
KEPT: Final[Mapping[str | None, Literal["first", "last"] | None]] = {
    None: None,
    "right": "first",
    "left": "last",
}


class PoolingBody(LenientBody, GenerationBody):
    """The fields that vLLM's API takes for every task."""

    is_lenient: ClassVar[bool] = True
    model: fields.OnlyModel = ""
    user: Ignored = None
    truncate_prompt_tokens: Truncation = None
    truncation_side: TruncationSide = None
    use_activation: bool | None = Field(
        None, description="False: the numbers as they are before the model's last step."
    )
    padding: Unsupported = None

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    def pooling_job(self, job_id: str, key_id: str, pooling: Pooling, **more: Any) -> Job:
        """Return a job of this body's model."""
        cut = self.truncate_prompt_tokens or None
        rest = {"truncate_prompt_tokens": cut, "key_id": key_id, **more}
        return Job(job_id, self.model, Sampling(), pooling=pooling, **rest)


class InputsBody(PoolingBody):
    """Several `input`s, or the `messages` of one chat."""

    input: Prompts | None = None
    messages: fields.Turns[ChatMessageParam] | None = Field(
        None, description="vLLM's: a chat instead of an `input`."
    )
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: Unsupported = None
    chat_template_kwargs: TemplateArguments | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.input is None and self.messages is None:
            raise PydanticCustomError("one", "give `input` or `messages`")
        if self.input is not None and self.messages is not None:
            raise PydanticCustomError("one", "`input` and `messages` exclude each other")
        return self

    def job_for(self, job_id: str, key_id: str, pooling: Pooling) -> Job:
        """Return a job for what is given. Raises `ApiError`."""
        if self.messages is None:
            more: dict[str, Any] = {"add_special_tokens": self.add_special_tokens}
        else:
            turns = turns_of(self.messages)
            more = {"messages": turns, "template": self._template()}
        return self.pooling_job(job_id, key_id, pooling, **more)

    def inputs(self) -> tuple[str | tuple[int, ...], ...]:
        """Return the inputs as jobs have them; none if there are messages."""
        given = self.input or []
        return tuple(each if isinstance(each, str) else tuple(each) for each in given)

    def _template(self) -> Template | None:
        """A chat to be pooled is usually not left open for an answer, as in vLLM."""
        if self.add_special_tokens:
            raise invalid("add_special_tokens", "the chat template says which there are")
        opens, continues = bool(self.add_generation_prompt), bool(self.continue_final_message)
        if opens and continues:
            raise invalid("continue_final_message", "excludes `add_generation_prompt`")
        given = dict(self.chat_template_kwargs or {})
        return template_of(given, None, opens=opens, continues=continues)


class PoolingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


def usage_of(tokens: int) -> dict[str, int]:
    """Return a `PoolingUsage`."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
