"""Bodies of answers of the Responses API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class IncompleteDetails(BaseModel):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseFailure(BaseModel):
    code: str
    message: str = Field(description="Begins with ew's own code.")


class ResponseUsageBody(BaseModel):
    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseBody(BaseModel):
    """A response. It echoes the request; fields left to the model are null."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    model: str
    output: list[dict[str, Any]] = Field(
        description="Items: `message`, `reasoning`, `function_call`, `custom_tool_call`."
    )
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    usage: ResponseUsageBody | None
    background: bool
    store: bool
    instructions: str | None
    previous_response_id: str | None
    metadata: dict[str, str]
    max_output_tokens: int | None
    max_tool_calls: int | None
    parallel_tool_calls: bool
    reasoning: dict[str, str | None]
    service_tier: str
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: str
    user: str | None


class ResponseEvent(BaseModel):
    """The data of an event, by its type as OpenAI has it."""

    type: str
    sequence_number: int
    response: ResponseBody | None = None
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ResponseItems(BaseModel):
    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class InputTokens(BaseModel):
    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int
