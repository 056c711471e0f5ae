"""What a client is told when something goes wrong: one table of codes, and the two bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from contract.messages import ErrorCode, Failed

#: Paths below it speak OpenAI's dialect.
OPENAI_PREFIX: Final = "/v1/"


class Fault(NamedTuple):
    """What a code means in HTTP. `retryable`: the same request may succeed later."""

    status: int
    retryable: bool = False
    retry_after_s: int | None = None


FAULTS: Final[Mapping[str, Fault]] = {
    "bad_http": Fault(400),
    "invalid_json": Fault(400),
    "incomplete_body": Fault(400),
    "bad_encoding": Fault(400),
    "invalid_header": Fault(400),
    "conflicting_api_keys": Fault(400),
    "missing_api_key": Fault(401),
    "invalid_api_key": Fault(401),
    "key_ended": Fault(401),
    "not_found": Fault(404),
    "model_not_found": Fault(404),
    "method_not_allowed": Fault(405),
    "request_timeout": Fault(408, True),
    "answer_gone": Fault(410),
    "body_too_large": Fault(413),
    "unsupported_encoding": Fault(415),
    "unknown_host": Fault(421),
    "idempotency_conflict": Fault(422),
    "too_many_failures": Fault(429, True, 30),
    "head_too_large": Fault(431),
    "internal_error": Fault(500),
    "cancelled": Fault(503, True, 1),
    "backend_down": Fault(503, True, 2),
    "keys_unreadable": Fault(503, True, 5),
    "model_not_started": Fault(503, True, 30),
    "model_starting": Fault(503, True, 5),
    "model_cannot_load": Fault(503, True, 30),
    "queue_full": Fault(503, True, 2),
    "too_many_resumes": Fault(503, True, 2),
    "too_many_connections": Fault(503, True, 5),
    ErrorCode.INVALID_REQUEST.value: Fault(422),
    ErrorCode.PROMPT_TOO_LONG.value: Fault(422),
    ErrorCode.ENGINE_FAILED.value: Fault(500),
    ErrorCode.ENGINE_LOST.value: Fault(503, True, 2),
    ErrorCode.GPU_OUT_OF_MEMORY.value: Fault(503, True, 5),
    ErrorCode.UPSTREAM_FAILED.value: Fault(502, True, 2),
    ErrorCode.POISON.value: Fault(500),
    ErrorCode.EXPIRED.value: Fault(504, True, 5),
    ErrorCode.FIRST_TOKEN_TIMEOUT.value: Fault(504, True, 5),
    ErrorCode.TOKEN_GAP_TIMEOUT.value: Fault(504, True, 5),
    ErrorCode.TOTAL_TIMEOUT.value: Fault(504, False),
    ErrorCode.LOST.value: Fault(503, True, 1),
    ErrorCode.SLOW_CLIENT.value: Fault(408),
    ErrorCode.DRAINING.value: Fault(503, True, 1),
}
_OPENAI_TYPES: Final[Mapping[int, str]] = {401: "authentication_error", 429: "rate_limit_error"}
_OPENAI_CODES: Final[Mapping[str, str]] = {
    ErrorCode.PROMPT_TOO_LONG.value: "context_length_exceeded"
}


class ApiError(Exception):
    """An answer that is an error. `code` is a key of `FAULTS`; `field` names what was wrong."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retryable: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.fault = FAULTS[code]
        self.retryable = self.fault.retryable if retryable is None else retryable
        self.headers = headers or {}

    @classmethod
    def of(cls, failed: Failed) -> ApiError:
        """What a worker said of a job."""
        return cls(failed.code.value, failed.message, retryable=failed.retryable)


def invalid(field: str, message: str) -> ApiError:
    """One field's value cannot be used."""
    return ApiError("invalid_request", f"`{field}`: {message}", field=field)


class ErrorAnswer(NamedTuple):
    """An error as HTTP."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answer_error(error: ApiError, request_id: str, *, openai: bool) -> ErrorAnswer:
    """The whole answer, in the dialect of the path."""
    body = openai_body(error) if openai else native_body(error, request_id)
    encoded = orjson.dumps(body)
    return ErrorAnswer(_status(error, openai), _headers(error, openai, len(encoded)), encoded)


def native_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """Also the data of an `event: error`."""
    body: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "requestId": request_id,
        "retryable": error.retryable,
    }
    if error.field is not None:
        body["field"] = error.field
    return body


def openai_body(error: ApiError) -> dict[str, Any]:
    status = _status(error, openai=True)
    usual = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": _OPENAI_TYPES.get(status, usual),
            "param": error.field,
            "code": _OPENAI_CODES.get(error.code, error.code),
        }
    }


def _status(error: ApiError, openai: bool) -> int:
    """OpenAI's clients know 400 for what is 422 elsewhere."""
    return 400 if openai and error.fault.status == 422 else error.fault.status


def _headers(error: ApiError, openai: bool, length: int) -> list[tuple[bytes, bytes]]:
    headers = {"content-type": "application/json", "content-length": str(length), **error.headers}
    if error.retryable and error.fault.retry_after_s is not None:
        headers["retry-after"] = str(error.fault.retry_after_s)
    if error.fault.status == 401:
        headers.setdefault("www-authenticate", "Bearer")
    if openai:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    return [(name.encode(), value.encode()) for name, value in headers.items()]
