"""The bodies of Ollama's API, as lenient as its server: what it does not know has no effect.

| Ollama's | is |
|---|---|
| `messages`, `tools`, `think` | turns, tools (`auto`), `enable_thinking` or `reasoning_effort` of the chat template |
| `tool_calls`, answers of the role `tool` | calls by their ids, which are numbers where there are none; answers by `tool_call_id`, else `tool_name`, else in order |
| `prompt` with `raw`; without | a prompt taken as it is; a turn, after one of `system` |
| no `prompt`, no `messages` | one token that nobody sees: a model on demand is loaded by it |
| `format` | a constraint: `json`, or a JSON schema |
| `options.num_predict`, `repeat_penalty` | `max_tokens` (unbounded below 1), `repetition_penalty` |
| `options.num_ctx`, `keep_alive` and the like | nothing: what is loaded how is the operator's business |
| `images` | images before the text of their turn |
| `template`, `context` | refused |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from contract import bounds
from contract.asked import Guided, Pooling, Template, Tools
from contract.messages import ChatMessage, Job, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, Unsupported
from gateway.api.guided import guided_by
from gateway.api.ollama.images import Images
from gateway.api.ollama.turns import OllamaMessage, turns_of
from gateway.api.openai.tools import ToolDefinitions, tools_of
from gateway.api.openai.values import Prompts
from gateway.api.templates import template_of
from gateway.http.errors import invalid

Effort = Literal["low", "medium", "high", "max"]
#: Ways to say that a model shall not stay.
_AT_ONCE = (0, "0", "0s")


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

    @property
    def asks_nothing(self) -> bool:
        """Whether it has no prompt: then it is about whether the model is loaded."""
        raise NotImplementedError

    @property
    def unloads(self) -> bool:
        return self.asks_nothing and self.keep_alive in _AT_ONCE

    def loading_job(self, job_id: str, key_id: str) -> Job:
        """The job for which a model on demand is loaded."""
        turns = (ChatMessage("user", "Hi"),)
        return Job(job_id, self.name, Sampling(max_tokens=1), messages=turns, key_id=key_id)

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
    messages: fields.AnyTurns[OllamaMessage] = Field(default_factory=list)
    tools: ToolDefinitions | None = None

    @property
    def asks_nothing(self) -> bool:
        return not self.messages

    def job(self, job_id: str, key_id: str) -> Job:
        if self.asks_nothing:
            return self.loading_job(job_id, key_id)
        turns = tuple(turns_of(self.messages))
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

    @property
    def asks_nothing(self) -> bool:
        return not (self.prompt or self.images or self.suffix)

    def job(self, job_id: str, key_id: str) -> Job:
        if self.asks_nothing:
            return self.loading_job(job_id, key_id)
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
