"""When a server of the OpenAI API does not answer as it should: what the client is told of it.

A server's own words reach the client only where its request is to blame, and the log never: they
may hold keys, addresses and control characters.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from contract.messages import ErrorCode

_LONGEST_MESSAGE: Final = 1_000
_RETRYABLE: Final = (408, 409, 425, 429)
_TOO_LONG: Final = re.compile(
    r"context.?(length|size|window)|prompt is too long|(prompt|input) (length|tokens).*exceed"
    r"|max_(seq|input)_len",
    re.IGNORECASE,
)
_SECRETS: Final = re.compile(
    r"\w{1,16}://\S+|\b(sk|pk|ew|hf|nvapi)[-_][\w-]{8,}|\bBearer\s+\S+", re.IGNORECASE
)


class UpstreamFailed(Exception):
    """A request that the server behind a model did not answer as it should. Its text is for the
    client; `note` says more to the operator, in words of our own."""

    retryable = False

    def __init__(
        self, message: str, code: ErrorCode = ErrorCode.UPSTREAM_FAILED, *, note: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.note = note


class UpstreamBusy(UpstreamFailed):
    """The same request may succeed later."""

    retryable = True


class StreamBroken(UpstreamBusy):
    """An answer that stopped before its end."""

    def __init__(self, why: str) -> None:
        super().__init__("the stream of the server behind this model broke", note=why)


def refusal(status: int, body: bytes, *, adapter: bool = False) -> UpstreamFailed:
    """Return the error that an HTTP status and its body mean for a job."""
    note = f"HTTP {status}, {len(body)} bytes"
    if status in (401, 403):
        return UpstreamFailed("the server behind this model refused ew's key", note=note)
    if status >= 500 or status in _RETRYABLE:
        return UpstreamBusy(f"the server behind this model failed (HTTP {status})", note=note)
    if status < 400 or (status == 404 and not adapter):
        return UpstreamFailed(f"the server behind this model failed (HTTP {status})", note=note)
    message = _message(body) or f"the server behind this model refused it (HTTP {status})"
    is_long = _TOO_LONG.search(message)
    code = ErrorCode.PROMPT_TOO_LONG if is_long else ErrorCode.INVALID_REQUEST
    return UpstreamFailed(message, code, note=note)


def _message(body: bytes) -> str:
    """Return what an error says, in any of the forms that servers use, on one line and without
    what looks like an address or a key."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        said = body.decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and name in said:
            said = said[name]
    text = said if isinstance(said, str) else json.dumps(said)
    # Cut first: the patterns take long on long texts.
    printable = "".join(char if char.isprintable() else " " for char in text[:_LONGEST_MESSAGE])
    return _SECRETS.sub("...", printable).strip()
