"""How an error looks in each API that this gateway speaks: its body, its headers and its status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from contract.messages import ErrorCode
from gateway.http.errors import ApiError

_OPENAI_TYPES: Final[Mapping[int, str]] = {401: "authentication_error", 429: "rate_limit_error"}
_OPENAI_CODES: Final[Mapping[str, str]] = {
    ErrorCode.PROMPT_TOO_LONG.value: "context_length_exceeded",
    "limit_reached": "rate_limit_exceeded",
}
#: By status; what is not named is `invalid_request_error` below 500, and `api_error` above.
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    410: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
#: Claude Code shortens a conversation when the message of an error begins so.
_TOO_LONG: Final = "prompt is too long: "


class ErrorDialect(NamedTuple):
    """How one API tells errors. `as_400`: its clients know 400 for what is 422 elsewhere.
    `says_retry`: they obey `X-Should-Retry`, as those that Stainless makes do."""

    body: Callable[[ApiError, str], dict[str, Any]]
    as_400: bool = False
    says_retry: bool = False


class ErrorAnswer(NamedTuple):
    """An error as HTTP."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answer_error(error: ApiError, request_id: str, dialect: ErrorDialect) -> ErrorAnswer:
    """Return the whole answer."""
    body = orjson.dumps(dialect.body(error, request_id))
    return ErrorAnswer(_status(error, dialect), _headers(error, dialect, len(body)), body)


def dialect_of(path: str) -> ErrorDialect:
    """Return the dialect in which the errors of a path are told."""
    return next((dialect for prefix, dialect in _BY_PREFIX if path.startswith(prefix)), NATIVE)


def native_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return the body of ew's own API, which is also the data of an `event: error`."""
    body: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "requestId": request_id,
        "retryable": error.retryable,
    }
    if error.field is not None:
        body["field"] = error.field
    return body


def openai_body(error: ApiError, request_id: str = "") -> dict[str, Any]:
    """Return the body of OpenAI's API, which does not name the request."""
    status = _status(error, OPENAI)
    usual = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": _OPENAI_TYPES.get(status, usual),
            "param": error.field,
            "code": _OPENAI_CODES.get(error.code, error.code),
        }
    }


def anthropic_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return the body of Anthropic's API, which is also the data of an `event: error`."""
    status = _status(error, ANTHROPIC)
    usual = "invalid_request_error" if status < 500 else "api_error"
    is_long = error.code == ErrorCode.PROMPT_TOO_LONG.value
    return {
        "type": "error",
        "error": {
            "type": _ANTHROPIC_TYPES.get(status, usual),
            "message": f"{_TOO_LONG}{error.message}" if is_long else error.message,
        },
        "request_id": request_id,
    }


def ollama_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return the body of Ollama's API, which is also the last line of a stream that fails."""
    return {"error": error.message}


NATIVE: Final = ErrorDialect(native_body)
OPENAI: Final = ErrorDialect(openai_body, as_400=True, says_retry=True)
OLLAMA: Final = ErrorDialect(ollama_body, as_400=True)
ANTHROPIC: Final = ErrorDialect(anthropic_body, as_400=True, says_retry=True)
#: Paths that OpenAI's clients use with a base URL that lacks `/v1`, and those of vLLM's root.
_AT_THE_ROOT: Final = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/tokenize",
    "/detokenize",
    "/rerank",
    "/score",
    "/classify",
    "/pooling",
    "/invocations",
    "/v2/",
)
_OF_OLLAMA: Final = (
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/tags",
    "/api/show",
    "/api/version",
)
#: The first that a path begins with is its dialect.
_BY_PREFIX: Final = (
    ("/v1/messages", ANTHROPIC),
    ("/v1/", OPENAI),
    *((path, OPENAI) for path in _AT_THE_ROOT),
    *((path, OLLAMA) for path in _OF_OLLAMA),
)


def _status(error: ApiError, dialect: ErrorDialect) -> int:
    return 400 if dialect.as_400 and error.fault.status == 422 else error.fault.status


def _headers(error: ApiError, dialect: ErrorDialect, length: int) -> list[tuple[bytes, bytes]]:
    headers = {"content-type": "application/json", "content-length": str(length), **error.headers}
    if error.retryable and error.fault.retry_after_s is not None:
        headers["retry-after"] = str(error.fault.retry_after_s)
    if error.fault.status == 401:
        headers.setdefault("www-authenticate", "Bearer")
    if dialect.says_retry:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    return [(name.encode(), value.encode()) for name, value in headers.items()]
