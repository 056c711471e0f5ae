"""The bodies of OpenAI's Responses API, with vLLM's extra fields, and as lenient as vLLM.

| Responses' | is |
|---|---|
| `instructions` | a turn of the system before all others |
| `input`: text, or items | turns (`items.py`) |
| part `input_image` | an image at its place in the turn |
| `tools`, `tool_choice` | functions (`tools.py`) |
| `text.format`, `structured_outputs` | a constraint on the answer |
| `reasoning.effort` | `reasoning_effort`, `enable_thinking` of the chat template |
| `max_output_tokens` | the most tokens |
| `include: message.output_text.logprobs`, `top_logprobs` | log probabilities |
| `truncation: auto` | of a longer prompt, its last tokens |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from msgspec.structs import replace
from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contract import bounds
from contract.asked import Turn
from contract.keys import KeyRecord
from contract.messages import Job, Sampling
from gateway.api import fields
from gateway.api.fields import GenerationBody, Ignored, LenientBody, OnlyFalse, Unsupported
from gateway.api.openai.constraints import (
    GuidedFields,
    JsonSchemaFormat,
    ResponseFormat,
    StructuredOutputs,
    guided_of,
)
from gateway.api.openai.values import LogitBias, ReasoningEffort, TemplateArguments, TokenIds
from gateway.api.prompt_count import counting
from gateway.api.responses.items import Items, turns_of
from gateway.api.responses.tools import (
    ResponseChoice,
    ResponseTool,
    ResponseTools,
    latest,
    response_tools_of,
)
from gateway.api.templates import template_of
from gateway.http.errors import invalid

_LOGPROBS: Final = "message.output_text.logprobs"
ShortText = Annotated[str, StringConstraints(max_length=512)]


class ReasoningOptions(LenientBody):
    place = "reasoning."
    effort: ReasoningEffort | None = None


class TextFormat(LenientBody):
    place = "text.format."
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = Field("", max_length=256)
    description: str | None = None
    schema_: fields.JsonSchema | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise PydanticCustomError("incomplete", "`schema` goes with the type `json_schema`")
        return self


class TextOptions(LenientBody):
    place = "text."
    format: TextFormat | None = None
    verbosity: Ignored = None


class ResponsesRequest(LenientBody, GenerationBody):
    is_lenient = True

    model: fields.OnlyModel = ""
    input: Items = Field(default_factory=list)
    instructions: str | None = None
    previous_response_id: ShortText | None = Field(
        None, description="The response that this one goes on after, with all that came before it."
    )
    store: bool | None = Field(None, description="Whether it may be asked for again: usually yes.")
    background: bool | None = Field(None, description="It goes on without its client.")
    stream: bool | None = None
    max_output_tokens: bounds.Tokens | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    tools: ResponseTools | None = None
    tool_choice: ResponseChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[ShortText] | None = Field(None, max_length=64)
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[ShortText, ShortText] | None = Field(None, max_length=16)
    user: ShortText | None = None
    max_tool_calls: Ignored = None
    service_tier: ShortText | None = Field(None, description="`flex` is the class `batch`.")
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    prompt_cache_options: Ignored = None
    stream_options: Ignored = None
    prompt: Unsupported = None
    conversation: Unsupported = None
    moderation: Unsupported = None
    include_reasoning: bool | None = Field(
        None, description="vLLM's, as all that follow; false leaves it out."
    )
    structured_outputs: StructuredOutputs | None = None
    top_k: bounds.TopK | None = None
    min_p: bounds.MinP | None = None
    presence_penalty: bounds.Penalty | None = None
    frequency_penalty: bounds.Penalty | None = None
    repetition_penalty: bounds.RepetitionPenalty | None = None
    seed: bounds.Seed | None = None
    stop: fields.Stops | None = None
    stop_token_ids: TokenIds | None = None
    ignore_eos: bool | None = None
    logit_bias: LogitBias | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    cache_salt: Annotated[str, StringConstraints(min_length=1, max_length=1_024)] | None = None
    chat_template_kwargs: TemplateArguments | None = None
    enable_response_messages: OnlyFalse = None
    previous_input_messages: Unsupported = None
    kv_transfer_params: Unsupported = None
    ec_transfer_params: Unsupported = None
    mm_processor_kwargs: Unsupported = None
    media_io_kwargs: Unsupported = None
    vllm_xargs: Unsupported = None
    watermarking: OnlyFalse = None

    @model_validator(mode="after")
    def _is_kept_if_it_goes_on(self) -> Self:
        if self.background and not self.is_stored:
            raise PydanticCustomError("stored", "background can only be used when `store` is true")
        return self

    @property
    def is_stored(self) -> bool:
        """Whether its response may be asked for again."""
        return self.store is not False

    @property
    def own_names(self) -> Mapping[str, str]:
        return {
            "max_tokens": "max_output_tokens",
            "min_tokens": "min_tokens",
            "logprobs": "top_logprobs",
        }

    @property
    def shows_reasoning(self) -> bool:
        return self.include_reasoning is not False

    def all_tools(self) -> list[ResponseTool]:
        """Return its tools and those of its items, the later of a name. Raises `ApiError`."""
        return latest([*(self.tools or ()), *(t for item in self.input for t in item.tools or ())])

    def turn(self, key: KeyRecord) -> Turn:
        turn = super().turn(key)
        is_flex = self.service_tier == "flex" and self.priority_class is None
        return replace(turn, priority="batch") if is_flex else turn

    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for. Raises `ApiError`."""
        if not self.input:
            raise invalid("input", "required")
        tools = response_tools_of(self.all_tools(), self.tool_choice, self.parallel_tool_calls)
        sampling = self._sampling()
        if sampling.guided and tools and tools.choice in ("required", "named"):
            raise invalid("tool_choice", "a constraint on the answer leaves no room for calls")
        continues = self.input[-1].is_open
        template = template_of(
            self.chat_template_kwargs,
            self.reasoning.effort if self.reasoning else None,
            opens=not continues,
            continues=continues,
            system_first=True,
        )
        return Job(
            job_id,
            self.model,
            sampling,
            messages=tuple(turns_of(self.instructions, self.input)),
            template=template,
            tools=tools,
            truncate_prompt_tokens=-1 if self.truncation == "auto" else None,
            cache_salt=self.cache_salt or "",
            key_id=key_id,
        )

    def _sampling(self) -> Sampling:
        wanted = self.text.format if self.text and self.text.format else TextFormat()
        schema = wanted.schema_
        guided = guided_of(
            GuidedFields(
                response_format=ResponseFormat(
                    type=wanted.type,
                    json_schema=None if schema is None else JsonSchemaFormat(schema=schema),
                ),
                structured_outputs=self.structured_outputs,
            ),
            "text.format",
        )
        wants_logprobs = self.top_logprobs or _LOGPROBS in (self.include or ())
        return Sampling(
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=self.stop or (),
            ignore_eos=bool(self.ignore_eos),
            logprobs=self.top_logprobs or 0 if wants_logprobs else None,
            guided=guided,
            logit_bias=self.logit_bias or None,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            include_stop_str_in_output=bool(self.include_stop_str_in_output),
            skip_special_tokens=self.skip_special_tokens is not False,
        )


class InputTokensRequest(ResponsesRequest):
    """The body of a request for a response, of which only the input's tokens are counted."""

    def job(self, job_id: str, key_id: str) -> Job:
        return counting(super().job(job_id, key_id))
