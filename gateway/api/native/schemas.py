"""The bodies of ew's own API, in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from contract import bounds
from contract.messages import ChatMessage, FinishReason, Job, Role, Sampling, State
from gateway.api import fields
from gateway.api.content import MessageContent
from gateway.api.fields import GenerationBody, StrictBody
from gateway.api.guided import guided_by
from gateway.api.native.answer_body import AnswerBody
from gateway.api.native.webhook_body import WebhookBody
from gateway.http.errors import FAULTS


class Message(StrictBody):
    """One turn of a conversation."""

    role: Role
    content: MessageContent
    name: str | None = Field(None, max_length=64)

    def turn(self) -> ChatMessage:
        return ChatMessage(self.role, self.content.text, self.name, media=self.content.media)


class InferenceRequest(StrictBody, GenerationBody):
    """A question to a model: either `prompt` or `messages`."""

    model_config = ConfigDict(alias_generator=to_camel)
    class_field = "priorityClass"

    model_id: fields.ModelName = Field(description="A model of `GET /api/v1/models`.")
    prompt: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The user's message; with `raw`, the prompt as the model reads it."
    )
    messages: fields.Turns[Message] | None = Field(
        None, description="A conversation, for the model's own chat template."
    )
    raw: bool = Field(False, description="Take `prompt` as it is, without the chat template.")
    max_tokens: bounds.Tokens | None = Field(
        None, description="The longest answer; as long as the model's context allows if not given."
    )
    min_tokens: fields.MinTokens = 0
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    top_k: bounds.TopK | None = Field(None, description="0 or -1 takes all tokens into account.")
    min_p: bounds.MinP | None = None
    presence_penalty: bounds.Penalty | None = None
    frequency_penalty: bounds.Penalty | None = None
    repetition_penalty: bounds.RepetitionPenalty | None = None
    seed: bounds.Seed | None = None
    stop: fields.Stops = ()
    ignore_eos: bool = Field(False, description="Go on to `maxTokens` whatever the model says.")
    json_schema: fields.JsonSchema | None = Field(
        None, description="The answer is JSON of this schema."
    )
    regex: fields.Pattern | None = Field(None, description="The answer matches it.")
    choices: fields.Choices | None = Field(None, description="The answer is one of these.")
    grammar: fields.Pattern | None = Field(None, description="The answer follows it (EBNF).")

    background: bool = Field(
        False, description="Answer at once with a job, which goes on without you."
    )
    webhook: WebhookBody | None = Field(None, description="Where a job's end is told.")

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "maxTokens", "min_tokens": "minTokens"}

    @model_validator(mode="after")
    def _prompt_or_messages(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        if self.raw and self.prompt is None:
            raise ValueError("`raw` needs a `prompt`")
        return self

    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for. Raises `ApiError`."""
        messages: tuple[ChatMessage, ...] | None = None
        if self.messages is not None:
            messages = tuple(message.turn() for message in self.messages)
        elif self.prompt is not None and not self.raw:
            messages = (ChatMessage("user", self.prompt),)
        prompt = self.prompt if self.raw else None
        return Job(job_id, self.model_id, self._sampling(), prompt, messages, key_id=key_id)

    def _sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=self.stop,
            ignore_eos=self.ignore_eos,
            guided=guided_by(
                jsonSchema=("json", self.json_schema),
                regex=("regex", self.regex),
                choices=("choice", self.choices),
                grammar=("grammar", self.grammar),
            ),
        )


class Usage(AnswerBody):
    """Tokens read and generated; `cachedTokens` of the prompt did not have to be read again, and
    `reasoningTokens` of the answer are no part of its text."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class TimingsBody(AnswerBody):
    """Milliseconds since the job was put on its model's queue."""

    queue_ms: float
    first_token_ms: float
    total_ms: float


class Completion(AnswerBody):
    """How an answer ended: the data of `event: done`."""

    finish_reason: FinishReason
    usage: Usage
    timings: TimingsBody
    request_id: str
    model_id: str
    pseudo_streamed: bool = Field(
        False, description="The engine cannot stream: the text came in pieces once complete."
    )


class InferenceAnswer(Completion):
    """A whole answer."""

    text: str
    reasoning: str | None = Field(None, description="What the model thought before it answered.")


class DeltaBody(AnswerBody):
    """The data of an event without a name: the next piece of text, or else of reasoning. Its `id`
    is its number."""

    text: str | None = None
    reasoning: str | None = None


class StatusBody(AnswerBody):
    """The data of `event: status`: what the job waits for."""

    stage: str
    position: int | None
    eta_s: float | None


class ErrorBody(AnswerBody):
    """Every error of this API; also the data of `event: error`."""

    code: str = Field(
        description="For programs; the message is for people. Newer releases may have more.",
        examples=sorted(FAULTS),
    )
    message: str
    request_id: str
    retryable: bool = Field(description="Whether the same request may succeed later.")
    field: str | None = Field(None, description="The field of the request that was wrong.")


class ModelBody(AnswerBody):
    """One model that this key may use."""

    id: str
    aliases: list[str] = Field(description="Other names that it can be asked for by.")
    parent: str | None = Field(description="The model that it is an adapter of.")
    state: State
    engine: str
    max_model_len: int | None = Field(description="Prompt and answer together, in tokens.")
    workers: int
    running: int
    waiting: int
    on_demand: bool = Field(description="Loaded at its first request, once it was started.")
    stage: str | None = Field(description="What is being done with it, if that is to be said.")
    fallback: list[str] = Field(description="Models that do what it cannot, in this order.")
    split: dict[str, float] = Field(description="Percent of its requests, by the model with them.")


class ModelsBody(AnswerBody):
    models: list[ModelBody]


class LiveBody(AnswerBody):
    status: Literal["live"] = "live"


class VersionBody(AnswerBody):
    version: str


class ReadyBody(AnswerBody):
    status: Literal["ready", "not_ready"]
    reasons: list[str]
