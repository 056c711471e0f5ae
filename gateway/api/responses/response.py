"""A response as the API has it: what was asked, echoed, and how it stands."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from contract.messages import Done, Job
from gateway.api.responses.output import ItemStatus, Output
from gateway.api.responses.schemas import ResponsesRequest
from gateway.http.errors import ApiError

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
ID_PREFIX: Final = "resp_"


def begun(asked: ResponsesRequest, job: Job, status: ResponseStatus) -> dict[str, Any]:
    """Return a response without an answer. Fields that the request leaves to the model are null."""
    dumped = asked.model_dump(
        mode="json", by_alias=True, exclude_unset=True, include={"tools", "tool_choice", "text"}
    )
    reasoning = {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None}
    return {
        "id": f"{ID_PREFIX}{job.id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": bool(asked.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": None,
        "metadata": asked.metadata or {},
        "model": job.model,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": asked.previous_response_id,
        "reasoning": reasoning,
        "service_tier": "default",
        "store": asked.is_stored,
        "temperature": asked.temperature,
        "text": {"format": {"type": "text"}, **(dumped.get("text") or {})},
        "tool_choice": dumped.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in dumped.get("tools") or ()],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": asked.top_p,
        "truncation": asked.truncation or "disabled",
        "usage": None,
        "user": asked.user,
    }


def ended(
    response: Mapping[str, Any], output: Output, done: Done, ended_s: float
) -> dict[str, Any]:
    """Return a response with its answer, which ended at that Unix time."""
    why = _INCOMPLETE.get(done.finish_reasons[0])
    status: ItemStatus = "incomplete" if why else "completed"
    return {
        **response,
        "status": status,
        "completed_at": None if why else int(ended_s),
        "incomplete_details": {"reason": why} if why else None,
        "output": output.written(status),
        "usage": {
            "input_tokens": done.prompt_tokens,
            "input_tokens_details": {"cached_tokens": done.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": done.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
            "total_tokens": done.prompt_tokens + done.completion_tokens,
        },
    }


def failed(response: Mapping[str, Any], error: ApiError) -> dict[str, Any]:
    """Return a response that has failed. Its code is one of those that OpenAI knows; the message
    begins with ew's own."""
    status = error.fault.status
    code = "invalid_prompt" if status < 500 else "server_error"
    code = "rate_limit_exceeded" if status == 429 else code
    told = {"code": code, "message": f"{error.code}: {error.message}"}
    return {**response, "status": "failed", "error": told}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Clients want these of a function, though null."""
    if tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "parameters": None, "strict": None, **tool}
