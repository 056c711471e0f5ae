"""Where the server of llama.cpp differs from other servers of the OpenAI API (release 11549)."""

from __future__ import annotations

from typing import Any, Final

from contract.messages import ErrorCode
from workers.engine import JobRejected

#: How the server names itself in its list of models.
LLAMA_CPP: Final = "llamacpp"
#: Settings that it ignores in silence: the answer would not be the one asked for.
_NOT_TAKEN: Final = ("min_tokens",)


def for_llama_cpp(body: dict[str, Any]) -> dict[str, Any]:
    """The same request in the server's own words. Raises `JobRejected` for what it would ignore, or
    would take though it makes no sense."""
    for name in _NOT_TAKEN:
        if name in body:
            raise _rejected(f"the server behind this model ({LLAMA_CPP}) takes no {name}")
    _check(body)
    if "repetition_penalty" in body:
        body["repeat_penalty"] = body.pop("repetition_penalty")
    return _completion(body) if "prompt" in body else _chat(body)


def _check(body: dict[str, Any]) -> None:
    """It samples with any numbers, and answers an empty prompt with nothing."""
    if body.get("prompt") == "":
        raise _rejected("the prompt is empty")
    if body.get("temperature", 0.0) < 0:
        raise _rejected(f"temperature is {body['temperature']:g}; it must be 0 or more")
    if not 0 < body.get("top_p", 1.0) <= 1:
        raise _rejected(f"top_p is {body['top_p']:g}; it must be above 0, and 1 at most")


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    """Return its completions know `response_format` not, only what its chats make of it."""
    wanted = body.pop("response_format", None)
    if wanted is not None:
        schema = wanted.get("json_schema", {}).get("schema")
        body["json_schema"] = {"type": "object"} if schema is None else schema
    if "logprobs" in body:
        body["logprobs"] = max(1, body["logprobs"])
    return body


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    """Without an alternative it gives no log probabilities at all."""
    if "top_logprobs" in body:
        body["top_logprobs"] = max(1, body["top_logprobs"])
    return body


def _rejected(message: str) -> JobRejected:
    return JobRejected(ErrorCode.INVALID_REQUEST, message)
