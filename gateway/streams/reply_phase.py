"""The phases of a reply, and the error if one takes too long."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from contract.messages import ErrorCode, Status
from gateway.http.errors import ApiError


class ReplyPhase(Enum):
    """A phase that the client waits for."""

    QUEUE = auto()
    FIRST_TOKEN = auto()
    TOKENS = auto()


TIMEOUTS: Final = {
    ReplyPhase.QUEUE: (ErrorCode.EXPIRED, "no worker was free in time"),
    ReplyPhase.FIRST_TOKEN: (
        ErrorCode.FIRST_TOKEN_TIMEOUT,
        "the worker's first token did not come",
    ),
    ReplyPhase.TOKENS: (ErrorCode.TOKEN_GAP_TIMEOUT, "the worker's next token did not come"),
}


def took_too_long(phase: ReplyPhase, waited: Status | None) -> ApiError:
    """Return the error of an answer that took too long in all, with what its model waited for."""
    message = "the answer took too long"
    if waited and phase is ReplyPhase.QUEUE:
        message += f"; it waited for its model: {waited.stage}"
    return ApiError(ErrorCode.TOTAL_TIMEOUT.value, message)
