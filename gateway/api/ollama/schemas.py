"""The bodies of Ollama's API, as lenient as its server: what it does not know has no effect.

| Ollama's | is |
|---|---|
| `messages`, `tools`, `think` | turns, tools (`auto`), `enable_thinking` or `reasoning_effort` of the chat template |
| `tool_calls` without ids, answers of the role `tool` | calls numbered in order, and the answers to them in order |
| `prompt` with `raw`; without | a prompt taken as it is; a turn, after one of `system` |
| `format` | a constraint: `json`, or a JSON schema |
| `options.num_predict`, `repeat_penalty` | `max_tokens` (unbounded below 1), `repetition_penalty` |
| `options.num_ctx`, `keep_alive` and the like | nothing: what is loaded how is the operator's business |
| `images` | images before the text of their turn |
| `template`, `context` | refused |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field

from contract import bounds
from contract.asked import Guided, Pooling, Template, ToolCall, Tools
from contract.messages import ChatMessage, Job, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, Unsupported
from gateway.api.guided import guided_by
from gateway.api.ollama.images import Images
from gateway.api.openai.tools import ToolDefinitions, ToolName, tools_of
from gateway.api.openai.values import Prompts
from gateway.api.templates import template_of
from gateway.http.errors import invalid

Effort = Literal["low", "medium", "high"]


class Options(LenientBody):
    place = "options."
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    top_k: bounds.TopK | None = None
    min_p: bounds.MinP | None = None
    seed: bounds.Seed | None = None
    stop: fields.Stops | None = None
    num_predict: Annotated[int, Field(ge=-2, le=1_000_000)] | None = None
    repeat_penalty: bounds.RepetitionPenalty | None = None
    presence_penalty: bounds.Penalty | None = None
    frequency_penalty: bounds.Penalty | None = None


class MadeFunction(LenientBody):
    place = "messages[].tool_calls[].function."
    name: ToolName
    arguments: dict[str, Any] = Field(default_factory=dict)


class MadeToolCall(LenientBody):
    place = "messages[].tool_calls[]."
    function: MadeFunction


class OllamaMessage(LenientBody):
    place = "messages[]."
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: Images = ()
    tool_calls: Annotated[list[MadeToolCall], Field(max_length=512, fail_fast=True)] | None = None
    tool_name: str | None = Field(None, max_length=256)


class OllamaBody(LenientBody, GenerationBody):
    """The fields of all of Ollama's bodies. `:latest` is no part of a name here."""

    is_lenient: ClassVar[bool] = True
    model: fields.ModelName
    options: Options | None = None
    keep_alive: Ignored = None

    @property
    def name(self) -> str:
        return self.model.removesuffix(":latest")

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "options.num_predict", "min_tokens": "", "logprobs": "logprobs"}


class OllamaGeneration(OllamaBody):
    """The fields that `/api/chat` and `/api/generate` share."""

    stream: bool | None = Field(None, description="True unless it says false.")
    format: Literal["json", ""] | fields.JsonSchema | None = None
    think: bool | Effort | None = None
    logprobs: Unsupported = None

    @property
    def is_streamed(self) -> bool:
        return self.stream is not False

    def sampling(self) -> Sampling:
        """Return how to choose tokens. Raises `ApiError`."""
        asked = self.options or Options()
        most = asked.num_predict
        return Sampling(
            max_tokens=most if most is not None and most > 0 else None,
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=asked.top_k,
            min_p=asked.min_p,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
            repetition_penalty=asked.repeat_penalty,
            seed=asked.seed,
            stop=asked.stop or (),
            guided=self._guided(),
        )

    def template(self) -> Template | None:
        """Return how the chat template is used, if not as usual."""
        if isinstance(self.think, bool):
            return template_of({"enable_thinking": self.think}, None)
        return template_of(None, self.think)

    def _guided(self) -> Guided | None:
        schema = self.format if isinstance(self.format, dict) else None
        any_json = "" if self.format == "json" else None
        return guided_by(format=("json_object", any_json) if schema is None else ("json", schema))


class OllamaChat(OllamaGeneration):
    messages: fields.Turns[OllamaMessage]
    tools: ToolDefinitions | None = None

    def job(self, job_id: str, key_id: str) -> Job:
        turns = tuple(_turns(self.messages))
        tools: Tools | None = tools_of(self.tools, None, None)
        rest: dict[str, Any] = {"template": self.template(), "tools": tools, "key_id": key_id}
        return Job(job_id, self.name, self.sampling(), messages=turns, **rest)


class OllamaGenerate(OllamaGeneration):
    prompt: str = ""
    system: str | None = None
    raw: bool | None = Field(None, description="The prompt is taken as it is.")
    suffix: str | None = None
    template_: Unsupported = Field(None, alias="template")
    context: Unsupported = None
    images: Images = ()

    def job(self, job_id: str, key_id: str) -> Job:
        if self.images and (self.raw or self.suffix):
            raise invalid("images", "go with a turn of a conversation, not with `raw` or `suffix`")
        if self.raw or self.suffix:
            prompt: dict[str, Any] = {"prompt": self.prompt, "suffix": self.suffix or None}
            return Job(job_id, self.name, self.sampling(), key_id=key_id, **prompt)
        turns = [ChatMessage("system", self.system)] if self.system else []
        turns.append(ChatMessage("user", self.prompt, media=self.images))
        rest: dict[str, Any] = {"template": self.template(), "key_id": key_id}
        return Job(job_id, self.name, self.sampling(), messages=tuple(turns), **rest)


class OllamaEmbed(OllamaBody):
    input: Prompts
    truncate: bool | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None

    def job(self, job_id: str, key_id: str) -> Job:
        inputs = tuple(each if isinstance(each, str) else tuple(each) for each in self.input)
        return Job(
            job_id,
            self.name,
            Sampling(),
            pooling=Pooling(inputs, self.dimensions),
            truncate_prompt_tokens=None if self.truncate is False else -1,
            key_id=key_id,
        )


class OllamaEmbedOne(OllamaBody):
    prompt: str

    def job(self, job_id: str, key_id: str) -> Job:
        return Job(
            job_id,
            self.name,
            Sampling(),
            pooling=Pooling((self.prompt,)),
            truncate_prompt_tokens=-1,
            key_id=key_id,
        )


class OllamaShow(LenientBody):
    model: fields.ModelName

    @property
    def name(self) -> str:
        return self.model.removesuffix(":latest")


def _turns(messages: list[OllamaMessage]) -> Iterator[ChatMessage]:
    """Yield the turns; the ids that Ollama's calls lack are their numbers."""
    made = answered = 0
    for message in messages:
        calls = []
        for call in message.tool_calls or ():
            arguments = orjson.dumps(call.function.arguments).decode()
            calls.append(ToolCall(f"call_{made}", call.function.name, arguments))
            made += 1
        call_id = None
        if message.role == "tool":
            call_id, answered = f"call_{answered}", answered + 1
        yield ChatMessage(
            message.role,
            message.content,
            message.tool_name,
            tuple(calls),
            call_id,
            message.thinking,
            message.images,
        )
