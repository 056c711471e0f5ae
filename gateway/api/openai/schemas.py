"""The bodies of OpenAI's API, with vLLM's extra fields, and as lenient as vLLM: an unknown field
has no effect. What would change the answer and is not supported is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contract import bounds
from contract.messages import ChatMessage, Guided, Job, Role, Sampling, Template
from gateway.api import fields
from gateway.api.fields import (
    GenerationBody,
    Ignored,
    LenientBody,
    OnlyFalse,
    OnlyOne,
    OnlyTrue,
    Unsupported,
    guided_by,
)
from gateway.api.openai.tools import Choice, ToolCalls, ToolDefinitions, tools_of
from gateway.http.errors import ApiError, invalid

#: What OpenAI's own server takes for `max_tokens` of a text completion.
_COMPLETION_TOKENS: Final = 16
_LARGEST_ARGUMENTS_BYTES: Final = 65_536
_MOST_TOKEN_IDS: Final = 1_024
#: Arguments of a chat template that are not for clients to give so.
_TEMPLATE_OWN: Final = frozenset(
    {
        "messages",
        "conversation",
        "tools",
        "chat_template",
        "tokenize",
        "return_dict",
        "add_generation_prompt",
        "continue_final_message",
    }
)


def _parsed(value: Any) -> Any:
    """vLLM takes a schema as text, too."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise PydanticCustomError("not_json", "not valid JSON") from None


def _one_prompt(value: Any) -> Any:
    match value:
        case [str(prompt)]:
            return prompt
        case [[int(), *_] as ids]:
            return ids
        case [str() | list(), _, *_]:
            raise PydanticCustomError("many_prompts", "one prompt per request is supported")
        case _:
            return value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """What a template is given runs through a program of the model's authors."""
    for name in value:
        if name in _TEMPLATE_OWN:
            raise PydanticCustomError("own", "`{name}` has a field of its own", {"name": name})
    if len(orjson.dumps(value)) > _LARGEST_ARGUMENTS_BYTES:
        raise PydanticCustomError("too_large", "too large")
    return value


JsonSchema = Annotated[
    fields.JsonSchema,
    BeforeValidator(_parsed, json_schema_input_type=dict[str, Any] | str),
]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(max_length=_MOST_TOKEN_IDS, fail_fast=True)]
PromptText = Annotated[str, StringConstraints(min_length=1)]
PromptIds = Annotated[list[TokenId], Field(min_length=1, max_length=1_000_000, fail_fast=True)]
Prompt = Annotated[
    PromptText | PromptIds,
    BeforeValidator(
        _one_prompt, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
    ),
]
Words = Annotated[list[fields.ChoiceText], Field(max_length=128, fail_fast=True)]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=_MOST_TOKEN_IDS)
]


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
TemplateArguments = Annotated[dict[str, Any], AfterValidator(_small)]


class JsonSchemaFormat(LenientBody):
    place = "response_format.json_schema."
    name: str = Field("", max_length=256)
    description: Ignored = None
    schema_: fields.JsonSchema = Field(alias="schema")
    strict: Ignored = None


class ResponseFormat(LenientBody):
    place = "response_format."
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("`json_schema` goes with the type `json_schema`")
        return self


class StructuredOutputs(LenientBody):
    """vLLM's; at most one."""

    place = "structured_outputs."

    json_: JsonSchema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: fields.Pattern | None = None
    choice: fields.Choices | None = None
    grammar: fields.Pattern | None = None
    structural_tag: Unsupported = None


class StreamOptions(LenientBody):
    place = "stream_options."
    include_usage: bool | None = None
    include_obfuscation: Ignored = None
    continuous_usage_stats: OnlyFalse = None


class GenerationRequest(LenientBody, GenerationBody):
    """What both endpoints take."""

    is_lenient = True

    model: fields.ModelName
    max_tokens: bounds.Tokens | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: fields.Stops | None = None
    seed: bounds.Seed | None = None
    presence_penalty: bounds.Penalty | None = None
    frequency_penalty: bounds.Penalty | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    top_k: bounds.TopK | None = Field(None, description="vLLM's, as all that follow to `grammar`.")
    min_p: bounds.MinP | None = None
    repetition_penalty: bounds.RepetitionPenalty | None = None
    min_tokens: fields.MinTokens | None = None
    ignore_eos: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonSchema | None = None
    guided_regex: fields.Pattern | None = None
    guided_choice: fields.Choices | None = None
    guided_grammar: fields.Pattern | None = None
    user: Ignored = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    logit_bias: LogitBias | None = Field(
        None, description="This and the next seven are vLLM's; not every engine can do them."
    )
    stop_token_ids: TokenIds | None = None
    bad_words: Words | None = None
    allowed_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    cache_salt: Annotated[str, StringConstraints(min_length=1, max_length=1_024)] | None = None
    logits_processors: Unsupported = None
    spaces_between_special_tokens: OnlyTrue = None
    use_beam_search: OnlyFalse = None
    length_penalty: OnlyOne = None
    prompt_logprobs: Unsupported = None
    return_token_ids: OnlyFalse = None
    return_tokens_as_token_ids: OnlyFalse = None
    kv_transfer_params: Unsupported = None
    vllm_xargs: Unsupported = None

    @property
    def own_names(self) -> Mapping[str, str]:
        return {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "logprobs": "logprobs"}

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def of_the_job(self, key_id: str) -> dict[str, Any]:
        """What both endpoints say of a job beside its prompt and sampling."""
        return {
            "truncate_prompt_tokens": self.truncate_prompt_tokens or None,
            "cache_salt": self.cache_salt or "",
            "key_id": key_id,
        }

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> Sampling:
        """How to choose tokens. Raises `ApiError`."""
        return Sampling(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens or 0,
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
            n=self.n or 1,
            logprobs=logprobs,
            guided=self._guided(),
            logit_bias=self.logit_bias or None,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            bad_words=tuple(self.bad_words or ()),
            allowed_token_ids=tuple(self.allowed_token_ids or ()),
            include_stop_str_in_output=bool(self.include_stop_str_in_output),
            skip_special_tokens=self.skip_special_tokens is not False,
        )

    def _guided(self) -> Guided | None:
        outputs = self.structured_outputs or StructuredOutputs()
        format_ = self.response_format or ResponseFormat(type="text")
        schema = format_.json_schema.schema_ if format_.json_schema else None
        any_json = "" if format_.type == "json_object" else None
        guides: dict[str, Any] = {
            "response_format": ("json_object", any_json) if schema is None else ("json", schema),
            "guided_json": ("json", self.guided_json),
            "guided_regex": ("regex", self.guided_regex),
            "guided_choice": ("choice", self.guided_choice),
            "guided_grammar": ("grammar", self.guided_grammar),
            "structured_outputs.json": ("json", outputs.json_),
            "structured_outputs.json_object": ("json_object", "" if outputs.json_object else None),
            "structured_outputs.regex": ("regex", outputs.regex),
            "structured_outputs.choice": ("choice", outputs.choice),
            "structured_outputs.grammar": ("grammar", outputs.grammar),
        }
        return guided_by(**guides)


class ChatMessageParam(LenientBody):
    """One turn. Clients send back whole messages that they were sent, with fields of no use."""

    place = "messages[]."
    role: Role
    content: fields.TextContent | None = None
    name: str | None = Field(None, max_length=64)
    refusal: Ignored = None
    annotations: Ignored = None
    audio: Unsupported = None
    function_call: Unsupported = None
    tool_calls: ToolCalls | None = None
    tool_call_id: str | None = Field(None, max_length=256)
    reasoning: str | None = None
    reasoning_content: str | None = Field(None, description="Another name of `reasoning`.")

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError("`content` is required")
        return self

    def turn(self) -> ChatMessage:
        return ChatMessage(
            self.role,
            self.content or "",
            self.name,
            tuple(call.call() for call in self.tool_calls or ()),
            self.tool_call_id,
            self.reasoning or self.reasoning_content,
        )


class ChatCompletionRequest(GenerationRequest):
    messages: fields.Turns[ChatMessageParam]
    max_completion_tokens: bounds.Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=8, fail_fast=True)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: Ignored = None
    tool_choice: Choice | None = None
    tools: ToolDefinitions | None = None
    function_call: Literal["none", "auto"] | None = None
    functions: Unsupported = None
    audio: Unsupported = None
    reasoning_effort: ReasoningEffort | None = Field(
        None, description="For the chat template; not every model's takes note of it."
    )
    verbosity: Ignored = None
    web_search_options: Unsupported = None
    chat_template: Unsupported = None
    chat_template_kwargs: TemplateArguments | None = None
    documents: Unsupported = None
    mm_processor_kwargs: Unsupported = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: OnlyFalse = None
    echo: OnlyFalse = None

    @property
    def own_names(self) -> Mapping[str, str]:
        names = dict(super().own_names)
        if self.max_completion_tokens is not None:
            names["max_tokens"] = "max_completion_tokens"
        if self.top_logprobs is not None:
            names["logprobs"] = "top_logprobs"
        return names

    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for. Raises `ApiError`."""
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs", "needs `logprobs`")
        if None not in (both := {self.max_tokens, self.max_completion_tokens}) and len(both) > 1:
            message = "differs from `max_tokens`, which is the same thing"
            raise invalid("max_completion_tokens", message)
        most = self.max_completion_tokens or self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        messages = tuple(message.turn() for message in self.messages)
        sampling = self.sampling(most, logprobs)
        tools = tools_of(self.tools, self.tool_choice, self.parallel_tool_calls)
        if sampling.guided and tools and tools.choice in ("required", "named"):
            raise invalid("tool_choice", "a constraint on the answer leaves no room for calls")
        return Job(
            job_id,
            self.model,
            sampling,
            messages=messages,
            template=self._template(),
            tools=tools,
            **self.of_the_job(key_id),
        )

    def _template(self) -> Template | None:
        """What differs from how a template is used otherwise. Raises `ApiError`."""
        arguments = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort is not None:
            arguments.setdefault("reasoning_effort", self.reasoning_effort)
            # Templates that think only when told to know the effort by this.
            arguments.setdefault("enable_thinking", self.reasoning_effort != "none")
        continues = bool(self.continue_final_message)
        opens = not continues if self.add_generation_prompt is None else self.add_generation_prompt
        if continues and opens:
            raise invalid("continue_final_message", "excludes `add_generation_prompt`")
        template = Template(orjson.dumps(arguments).decode() if arguments else "", opens, continues)
        return None if template == Template() else template


class CompletionRequest(GenerationRequest):
    prompt: Prompt = Field(description="Taken as it is, without a chat template.")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    echo: Unsupported = None
    suffix: Unsupported = None
    prompt_embeds: Unsupported = None
    add_special_tokens: OnlyTrue = None

    def job(self, job_id: str, key_id: str) -> Job:
        """The job asked for. Raises `ApiError`."""
        if self.best_of not in (None, self.n or 1):
            raise ApiError("invalid_request", "`best_of`: must equal `n`", field="best_of")
        most = _COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens
        sampling = self.sampling(most, self.logprobs)
        is_text = isinstance(self.prompt, str)
        given: dict[str, Any]
        given = {"prompt": self.prompt} if is_text else {"prompt_ids": tuple(self.prompt)}
        return Job(job_id, self.model, sampling, **given, **self.of_the_job(key_id))
