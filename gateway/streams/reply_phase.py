"""The phases of a reply, and the error if one takes too long."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from contract.messages import ErrorCode


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
