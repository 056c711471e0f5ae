"""Errors: one table of codes with their HTTP statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from contract.messages import ErrorCode, Failed


class Fault(NamedTuple):
    """The meaning of a code in HTTP. `retryable`: the same request may succeed later."""

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
    "missing_certificate": Fault(403),
    "priority_not_allowed": Fault(403),
    "scope_missing": Fault(403),
    "not_found": Fault(404),
    "model_not_found": Fault(404),
    "job_not_found": Fault(404),
    "file_not_found": Fault(404),
    "batch_not_found": Fault(404),
    "batch_has_ended": Fault(400),
    "job_has_ended": Fault(400),
    "refused": Fault(409),
    "bad_multipart": Fault(400),
    "method_not_allowed": Fault(405),
    "request_timeout": Fault(408, True),
    "answer_gone": Fault(410),
    "body_too_large": Fault(413),
    "files_full": Fault(413),
    "unsupported_encoding": Fault(415),
    "unknown_host": Fault(421),
    "idempotency_conflict": Fault(422),
    "too_many_failures": Fault(429, True, 30),
    "limit_reached": Fault(429, True),
    "head_too_large": Fault(431),
    "internal_error": Fault(500),
    ErrorCode.CANCELLED.value: Fault(503, True, 1),
    "backend_down": Fault(503, True, 2),
    "keys_unreadable": Fault(503, True, 5),
    "supervisor_away": Fault(503, True, 2),
    "audit_failed": Fault(503, True, 5),
    "model_not_started": Fault(503, True, 30),
    "model_starting": Fault(503, True, 5),
    "model_cannot_load": Fault(503, True, 30),
    "queue_full": Fault(503, True, 2),
    "disk_full": Fault(503, True, 30),
    "too_many_resumes": Fault(503, True, 2),
    "job_waits": Fault(503, True, 5),
    "too_many_connections": Fault(503, True, 5),
    ErrorCode.INVALID_REQUEST.value: Fault(422),
    ErrorCode.PROMPT_TOO_LONG.value: Fault(422),
    ErrorCode.ENGINE_FAILED.value: Fault(500),
    ErrorCode.ENGINE_LOST.value: Fault(503, True, 2),
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
        """Return the error that a worker reported for a job."""
        return cls(failed.code.value, failed.message, retryable=failed.retryable)


def invalid(field: str, message: str) -> ApiError:
    """One field's value cannot be used."""
    return ApiError("invalid_request", f"`{field}`: {message}", field=field)
