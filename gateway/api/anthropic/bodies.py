"""Bodies of answers of Anthropic's API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class ThinkingTokens(BaseModel):
    thinking_tokens: int


class MessageUsage(BaseModel):
    """`input_tokens` are those that the engine's cache did not have."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens


class AnsweredBlock(BaseModel):
    """`text`, `thinking` with a signature that says nothing, or a `tool_use` with its input."""

    type: Literal["text", "thinking", "tool_use"]
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = Field(
        None, description="What is no JSON object is the text of `INVALID_JSON` in one."
    )


class AnsweredMessage(BaseModel):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[AnsweredBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class OriginalTokens(BaseModel):
    original_input_tokens: int


class CountedTokens(BaseModel):
    """`context_management` has the same count again, as vLLM has it: nothing is left out."""

    input_tokens: int
    context_management: OriginalTokens


class MessageEvent(BaseModel):
    """The data of an event: `message_start`; `content_block_start`, `_delta` and `_stop` for each
    block; `message_delta`, `message_stop`; and `ping` and `error`."""

    type: str
    index: int | None = None
    message: AnsweredMessage | None = None
    content_block: AnsweredBlock | None = None
    delta: dict[str, Any] | None = None
    usage: MessageUsage | None = None


class AnthropicErrorDetail(BaseModel):
    type: str
    message: str


class AnthropicErrorBody(BaseModel):
    """Every error of this API; also the data of an `event: error`."""

    type: Literal["error"] = "error"
    error: AnthropicErrorDetail
    request_id: str
