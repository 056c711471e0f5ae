"""Bodies of answers of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

_OF_FUNCTIONS: Final = "In place of `tool_calls`, to a request with `functions`."
_OF_STOP: Final = "vLLM's: the stop string that ended it, in a whole answer."
OpenAIFinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class CachedTokens(BaseModel):
    cached_tokens: int


class ReasoningTokens(BaseModel):
    reasoning_tokens: int


class OpenAIUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class Alternative(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(Alternative):
    top_logprobs: list[Alternative]


class ChatLogprobs(BaseModel):
    content: list[ChatLogprob]
    refusal: None = None


class PromptLogprob(BaseModel):
    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobs = Annotated[
    list[dict[str, PromptLogprob] | None],
    Field(description="For each token of the prompt, by token id. Of the first, nothing is known."),
]


class CalledFunction(BaseModel):
    name: str
    arguments: str = Field(description="A JSON object.")


class MadeCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatAnswerMessage(BaseModel):
    """`tool_calls` and the reasoning are left out where there is none; both names of the latter
    hold the same."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[MadeCall] | None = None
    function_call: CalledFunction | None = Field(None, description=_OF_FUNCTIONS)
    reasoning: str | None = None
    reasoning_content: str | None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatAnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: OpenAIFinishReason
    stop_reason: str | None = Field(None, description=_OF_STOP)
    token_ids: list[int] | None = Field(None, description="If asked for.")


class ChatCompletion(BaseModel):
    """The fields after `usage` are null unless they were asked for."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: OpenAIUsage
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class FunctionPiece(BaseModel):
    name: str | None = None
    arguments: str


class CallPiece(BaseModel):
    """A piece of the call of that index; the first has its id, type and name."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionPiece


class ChatDelta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPiece] | None = None
    function_call: FunctionPiece | None = Field(None, description=_OF_FUNCTIONS)


class ChatChunkChoice(BaseModel):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: OpenAIFinishReason | None
    token_ids: list[int] | None = Field(None, description="If asked for.")


class ChatCompletionChunk(BaseModel):
    """The data of each event, until `[DONE]`. If asked for, the prompt's tokens are in the first,
    and the usage so far in each."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: OpenAIUsage | None = Field(None, description="In the last, with `include_usage`.")
    prompt_token_ids: list[int] | None = None


class TextLogprobs(BaseModel):
    """The first token of a prompt that is echoed has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    """The fields after `finish_reason` are null unless they were asked for, and may be missing in a
    stream."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: OpenAIFinishReason | None
    stop_reason: str | None = Field(None, description=_OF_STOP)
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


class TextCompletion(BaseModel):
    """A whole answer, or the data of each event until `[DONE]`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: OpenAIUsage | None = None


class ModelCapabilities(BaseModel):
    """Mistral's clients read these. Chats and tools are said of every model, as the gateway does
    not know which it was made for; pictures and sounds of those whose workers take them."""

    completion_chat: bool = True
    function_calling: bool = True
    vision: bool
    audio: bool


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"] = "model"
    type: Literal["base"] = Field("base", description="Mistral's clients cannot do without.")
    created: int
    owned_by: str
    root: str = Field(description="The model's id, where `id` is another name of it.")
    parent: str | None = Field(description="The model that it is an adapter of.")
    max_model_len: int | None
    max_context_length: int | None = Field(description="The same, by Mistral's name.")
    capabilities: ModelCapabilities
    state: str


class OpenAIModels(BaseModel):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class OpenAIErrorBody(BaseModel):
    """Every error of this API; also the data of the last event of a stream that fails."""

    error: OpenAIErrorDetail
