"""Requests as vLLM's own server would have been sent them: its parsers look at them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from contract.messages import ChatMessage, Job


def request_of(job: Job, arguments: dict[str, Any], outputs: Any) -> Any:
    """Return the request of a chat, given the `arguments` of its template and vLLM's form of what
    constrains the answer, if anything does. Raises what vLLM raises."""
    given = {
        "messages": [_message(each) for each in job.messages or ()],
        "chat_template_kwargs": arguments,
    }
    skips = job.sampling.skip_special_tokens
    if job.tools is None and outputs is None:
        # To check it takes longer than all else that a parser needs.
        return _usual(skips).model_copy(update=given)
    body = given | {"structured_outputs": outputs}
    if job.tools is not None:
        named = {"type": "function", "function": {"name": job.tools.name}}
        body |= {
            "tools": json.loads(job.tools.definitions),
            "tool_choice": named if job.tools.choice == "named" else job.tools.choice,
            "parallel_tool_calls": job.tools.parallel,
        }
    return _checked(body, skips)


@lru_cache(maxsize=2)
def _usual(skips_special: bool) -> Any:
    body = {"messages": [{"role": "user", "content": ""}], "structured_outputs": None}
    return _checked(body, skips_special)


def _checked(body: dict[str, Any], skips_special: bool) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    # vLLM 0.33 leaves it open what is not said, and its engine core then ends.
    return ChatCompletionRequest.model_validate(body | {"skip_special_tokens": skips_special})


def _message(message: ChatMessage) -> dict[str, Any]:
    """Parsers look whether earlier turns have calls, and how many."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "{}"}}
        for call in message.tool_calls
    ]
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    return written | ({"tool_calls": calls} if calls else {})
